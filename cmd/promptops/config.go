package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/promptcademy/promptops/internal/config"
)

func showConfig(ctx context.Context, p *program, args []string) error {
	set := p.flags("config", "[--show-database-url] [--json]", "Prints the configuration as it takes effect, secrets redacted.")
	showURL := set.Bool("show-database-url", false, "print only the database's address, password included, for psql and pg_dump (starts nothing; with the embedded server: while serve runs)")
	asJSON := set.Bool("json", false, "print JSON")
	if _, err := parse(set, args); err != nil {
		return err
	}
	if *showURL {
		f, err := p.open(ctx, p.quiet())
		if err != nil {
			return err
		}
		defer f.close()
		if f.server != nil && f.server.Owned() {
			return fmt.Errorf("the embedded Postgres is not running; start promptops serve first")
		}
		fmt.Fprintln(p.stdout, f.url)
		return nil
	}
	c, err := config.Load(p.environ)
	if err != nil {
		return fmt.Errorf("the configuration is not usable:\n%w", err)
	}
	if *asJSON {
		encoder := json.NewEncoder(p.stdout)
		encoder.SetIndent("", "  ")
		return encoder.Encode(c.Settings())
	}
	fmt.Fprint(p.stdout, c.String())
	return nil
}
