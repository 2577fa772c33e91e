package config_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/promptcademy/promptops/internal/config"
)

func TestDefaultsAreEmbeddedOnLoopback(t *testing.T) {
	c, err := config.Load(nil)
	if err != nil {
		t.Fatal(err)
	}
	if !c.Embedded() || c.Listen != "127.0.0.1:8080" || c.BaseURL != "http://127.0.0.1:8080" || c.SecureCookies() {
		t.Errorf("defaults: %v", c)
	}
}

func TestDatabaseURLListensEverywhere(t *testing.T) {
	c, err := config.Load([]string{
		"DATABASE_URL=postgres://u:p@db/x", "PROMPTOPS_MASTER_KEYS=1:abc", "SUPABASE_URL=https://ref.supabase.co/",
		"PORT=9000", "PROMPTOPS_BASE_URL=https://ops.example.com/", "GEMINI_BASE_URL=http://127.0.0.1:1/",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Listen != ":9000" || c.BaseURL != "https://ops.example.com" || !c.SecureCookies() || c.SupabaseURL != "https://ref.supabase.co" {
		t.Errorf("got %v", c)
	}
	if diff := cmp.Diff(map[string]string{"google": "http://127.0.0.1:1"}, c.ProviderBaseURLs()); diff != "" {
		t.Error(diff)
	}
}

func TestEveryProblemIsNamed(t *testing.T) {
	_, err := config.Load([]string{
		"DATABASE_URL=mysql://u:hunter2@db/x", "PROMPTOPS_LISTEN=nowhere", "PROMPTOPS_TIMEZONE=Mars/Base",
		"PROMPTOPS_TRUSTED_PROXIES=10.0.0.0/8,bogus", "PROMPTOPS_CORS_ORIGINS=*,https://a.example/path",
		"OPENAI_BASE_URL=ftp://x", "PROMPTOPS_BASE_URL=ops.example.com", "PROMPTOPS_ALLOW_ANONYMOUS=perhaps",
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{
		"DATABASE_URL", "PROMPTOPS_LISTEN", "PROMPTOPS_TIMEZONE", "PROMPTOPS_TRUSTED_PROXIES", "PROMPTOPS_CORS_ORIGINS",
		"OPENAI_BASE_URL", "PROMPTOPS_BASE_URL", "PROMPTOPS_ALLOW_ANONYMOUS", "PROMPTOPS_MASTER_KEYS", "SUPABASE_URL",
	} {
		if !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("the error shows a password")
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	c, err := config.Load([]string{
		"DATABASE_URL=postgres://u:hunter2@db/x?password=hunter3", "PROMPTOPS_MASTER_KEYS=1:hunter4",
		"SUPABASE_JWT_SECRET=hunter5",
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, printed := range []string{c.String(), fmt.Sprint(c), fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c)} {
		if strings.Contains(printed, "hunter") {
			t.Errorf("printed a secret: %s", printed)
		}
		if !strings.Contains(printed, "postgres://u@db/x") {
			t.Errorf("does not say where the database is: %s", printed)
		}
	}
}
