package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"golang.org/x/term"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
	"github.com/promptcademy/promptops/internal/learner"
)

const resetLinkTTL = 24 * time.Hour

func operators(ctx context.Context, p *program, args []string) error {
	set := p.flags("operator", "add|list|disable|enable|reset", `Manages who signs in to the dashboard.
  add      makes an operator; the password is asked for, or read from standard input. Without one
           (--link) a one-time sign-in link is printed instead.
  list     prints all operators
  disable  ends an operator's sessions at once and lets them in no more; enable undoes it
  reset    prints a one-time sign-in link, with which a new password is chosen; earlier links stop working
A team lead (--role team_lead --learner EMAIL) sees the teams that this learner leads, nobody else's, and
loses sight of a team when the learner stops leading it.`)
	email := set.String("email", "", "the operator's address (not with list)")
	name := set.String("name", "", "add: how the operator is called")
	role := set.String("role", string(account.RoleAdmin), "add: admin or team_lead")
	leads := set.String("learner", "", "add: for a team lead, the address of their own learner account")
	zone := set.String("timezone", "", "add: like Europe/Berlin; the configured zone if empty")
	byLink := set.Bool("link", false, "add: print a one-time sign-in link instead of asking for a password")
	asJSON := set.Bool("json", false, "list: print JSON")
	word, err := parse(set, args, "add", "list", "disable", "enable", "reset")
	if err != nil {
		return err
	}
	if word == "" {
		return fmt.Errorf("%w: say add, list, disable, enable or reset", errUsage)
	}
	if *email == "" && word != "list" {
		return fmt.Errorf("%w: --email is missing", errUsage)
	}
	f, err := p.openMigrated(ctx, p.quiet())
	if err != nil {
		return err
	}
	defer f.close()
	store := account.NewStore(f.pool, p.quiet())
	switch word {
	case "list":
		return p.listOperators(ctx, store, *asJSON)
	case "add":
		return p.addOperator(ctx, f, store, *leads, *byLink, account.NewOperator{
			Email: *email, Name: *name, Role: account.Role(*role), Timezone: *zone,
		})
	}
	found, err := store.FindByEmail(ctx, *email)
	if err != nil {
		return err
	}
	switch word {
	case "disable":
		if err := store.Disable(ctx, audit.CommandLine, found.ID, time.Now()); err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "%s is disabled and signed out everywhere.\n", found.Email)
		return nil
	case "enable":
		if err := store.Enable(ctx, audit.CommandLine, found.ID, time.Now()); err != nil {
			return err
		}
		fmt.Fprintf(p.stderr, "%s may sign in again.\n", found.Email)
		return nil
	}
	return p.printLink(ctx, f, store, found.ID) // reset
}

func (p *program) addOperator(ctx context.Context, f *foundation, store *account.Store, leads string, byLink bool, n account.NewOperator) error {
	if leads != "" {
		found, err := learner.NewStore(f.pool).FindByEmail(ctx, leads, time.Now())
		if err != nil {
			return err
		}
		n.LearnerID = &found.ID
		teams, err := learner.NewStore(f.pool).Led(ctx, found.ID, time.Now())
		if err != nil {
			return err
		}
		if n.Role == account.RoleTeamLead && len(teams) == 0 {
			fmt.Fprintf(p.stderr, "%s leads no team at the moment, so there is nothing for them to see until they do.\n", found.Email)
		}
	}
	if !byLink {
		var err error
		if n.Password, err = p.readSecret("Password: "); err != nil {
			return err
		}
		if n.Password == "" {
			return errors.New("the password is empty; give one, or use --link")
		}
	}
	operator, err := store.Create(ctx, audit.CommandLine, n, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "%s can sign in at %s as %s.\n", operator.Email, f.config.BaseURL, operator.Role)
	if byLink {
		return p.printLink(ctx, f, store, operator.ID)
	}
	return nil
}

func (p *program) printLink(ctx context.Context, f *foundation, store *account.Store, id uuid.UUID) error {
	link, err := store.CreateLink(ctx, audit.CommandLine, id, resetLinkTTL, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintf(p.stderr, "Works once, for %.0f hours:\n", resetLinkTTL.Hours())
	fmt.Fprintf(p.stdout, "%s/sign-in/link/%s\n", f.config.BaseURL, link)
	return nil
}

// listedOperator is an operator as "operator list --json" prints it.
type listedOperator struct {
	ID           uuid.UUID    `json:"id"`
	Email        string       `json:"email"`
	Name         string       `json:"name"`
	Role         account.Role `json:"role"`
	LearnerID    *uuid.UUID   `json:"learnerId"`
	LearnerEmail string       `json:"learnerEmail"`
	Leads        []string     `json:"leads"` // teams, by name
	Sessions     int          `json:"sessions"`
	DisabledAt   *time.Time   `json:"disabledAt"`
	LastSignInAt *time.Time   `json:"lastSignInAt"`
	CreatedAt    time.Time    `json:"createdAt"`
}

func (p *program) listOperators(ctx context.Context, store *account.Store, asJSON bool) error {
	list, err := store.List(ctx, time.Now())
	if err != nil {
		return err
	}
	if asJSON {
		listed := make([]listedOperator, len(list))
		for i, o := range list {
			listed[i] = listedOperator{o.ID, o.Email, o.Name, o.Role, o.LearnerID, o.LearnerEmail, o.Leads, o.Sessions, o.DisabledAt, o.LastSignInAt, o.CreatedAt}
		}
		return json.NewEncoder(p.stdout).Encode(listed)
	}
	w := tabwriter.NewWriter(p.stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "E-MAIL\tNAME\tROLE\tLEADS\tSTATE\tSESSIONS\tLAST SIGN-IN")
	for _, o := range list {
		state, last := "active", "never"
		if o.DisabledAt != nil {
			state = "disabled"
		}
		if o.LastSignInAt != nil {
			last = o.LastSignInAt.UTC().Format(time.RFC3339)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\n", o.Email, o.Name, o.Role, strings.Join(o.Leads, ", "), state, o.Sessions, last)
	}
	return w.Flush()
}

// readSecret reads a line that is not echoed: from the terminal with a prompt,
// else from standard input.
func (p *program) readSecret(prompt string) (string, error) {
	if file, ok := p.stdin.(*os.File); ok && term.IsTerminal(int(file.Fd())) {
		fmt.Fprint(p.stderr, prompt)
		secret, err := term.ReadPassword(int(file.Fd()))
		fmt.Fprintln(p.stderr)
		return string(secret), err
	}
	line, err := bufio.NewReader(io.LimitReader(p.stdin, 64<<10)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimRight(line, "\r\n"), nil
}
