package main

import (
	"context"
	"fmt"
	"time"

	"github.com/promptcademy/promptops/internal/learner"
)

func token(ctx context.Context, p *program, args []string) error {
	set := p.flags("token", "--learner EMAIL [--ttl 1h]", "Prints an access token of a learner, for trying the run endpoint with curl.\nIt is signed with SUPABASE_JWT_SECRET, or with the embedded database's own secret.")
	email := set.String("learner", "", "the learner's address")
	ttl := set.Duration("ttl", time.Hour, "how long it is valid")
	if _, err := parse(set, args); err != nil {
		return err
	}
	if *email == "" {
		return fmt.Errorf("%w: --learner is missing", errUsage)
	}
	f, err := p.openMigrated(ctx, p.quiet())
	if err != nil {
		return err
	}
	defer f.close()
	who, err := learner.NewStore(f.pool).FindByEmail(ctx, *email, time.Now())
	if err != nil {
		return err
	}
	minted, err := learner.Mint(f.jwtSecret, learner.Issuer(f.config.SupabaseURL), who, *ttl, time.Now())
	if err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, minted)
	return nil
}
