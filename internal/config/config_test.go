package config_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

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

// An endpoint on one's own machine is the first that is tried, and in production
// the way to what nobody should reach.
func TestPrivateEndpoints(t *testing.T) {
	production := []string{"DATABASE_URL=postgres://u:p@db/x", "PROMPTOPS_MASTER_KEYS=1:abc", "SUPABASE_URL=https://ref.supabase.co/"}
	for name, tt := range map[string]struct {
		environ []string
		want    bool
	}{
		"embedded":                 {nil, true},
		"embedded, not":            {[]string{"PROMPTOPS_ALLOW_PRIVATE_ENDPOINTS=false"}, false},
		"production":               {production, false},
		"production, all the same": {append(production, "PROMPTOPS_ALLOW_PRIVATE_ENDPOINTS=true"), true},
	} {
		c, err := config.Load(tt.environ)
		if err != nil || *c.AllowPrivateEndpoints != tt.want {
			t.Errorf("%s: %v, %v", name, c.AllowPrivateEndpoints, err)
		}
	}
	if _, err := config.Load([]string{"PROMPTOPS_ALLOW_PRIVATE_ENDPOINTS=perhaps"}); err == nil || !strings.Contains(err.Error(), "PROMPTOPS_ALLOW_PRIVATE_ENDPOINTS: must be true or false") {
		t.Errorf("perhaps: %v", err)
	}
}

func TestEveryProblemIsNamed(t *testing.T) {
	_, err := config.Load([]string{
		"DATABASE_URL=mysql://u:hunter2@db/x", "PROMPTOPS_LISTEN=nowhere", "PROMPTOPS_TIMEZONE=Mars/Base",
		"PROMPTOPS_TRUSTED_PROXIES=10.0.0.0/8,bogus", "PROMPTOPS_CORS_ORIGINS=*,https://a.example/path",
		"OPENAI_BASE_URL=ftp://x", "PROMPTOPS_BASE_URL=ops.example.com", "PROMPTOPS_ALLOW_ANONYMOUS=perhaps",
		"PROMPTOPS_METRICS_LISTEN=9090", "PROMPTOPS_METRICS_TOKEN=hunter2", "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4317",
		"OTEL_EXPORTER_OTLP_HEADERS=hunter2", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc",
	})
	if err == nil {
		t.Fatal("accepted")
	}
	for _, name := range []string{
		"DATABASE_URL", "PROMPTOPS_LISTEN", "PROMPTOPS_TIMEZONE", "PROMPTOPS_TRUSTED_PROXIES", "PROMPTOPS_CORS_ORIGINS",
		"OPENAI_BASE_URL", "PROMPTOPS_BASE_URL", "PROMPTOPS_ALLOW_ANONYMOUS", "PROMPTOPS_MASTER_KEYS", "SUPABASE_URL",
		"PROMPTOPS_METRICS_LISTEN", "PROMPTOPS_METRICS_TOKEN", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_PROTOCOL",
	} {
		if !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s is not named in:\n%v", name, err)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Error("the error shows a password")
	}
}

func TestLimits(t *testing.T) {
	c, err := config.Load([]string{
		"PROMPTOPS_DAILY_BUDGET_USD=25", "PROMPTOPS_LEARNER_DAILY_BUDGET_USD=0.000000001", "PROMPTOPS_RUNS_PER_MINUTE=600",
		"PROMPTOPS_CONCURRENT_RUNS=1", "PROMPTOPS_SHUTDOWN_TIMEOUT=1m30s",
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.DailyBudgetUSD != "25" || c.LearnerDailyBudgetUSD != "0.000000001" || *c.RunsPerMinute != 600 || *c.ConcurrentRuns != 1 || c.ShutdownTimeout != 90*time.Second {
		t.Errorf("got %v", c)
	}
	for _, line := range []string{"PROMPTOPS_DAILY_BUDGET_USD=25", "PROMPTOPS_RUNS_PER_MINUTE=600", "PROMPTOPS_SHUTDOWN_TIMEOUT=1m30s"} {
		if !strings.Contains(c.String(), line+"\n") {
			t.Errorf("%s is not among the settings:\n%s", line, c)
		}
	}
	none, err := config.Load(nil)
	if err != nil || none.DailyBudgetUSD != "" || none.LearnerDailyBudgetUSD != "" || none.RunsPerMinute != nil || none.ConcurrentRuns != nil || none.ShutdownTimeout != 30*time.Second {
		t.Errorf("without any: %v, %v", none, err)
	}
	if !strings.Contains(none.String(), "PROMPTOPS_RUNS_PER_MINUTE=\n") {
		t.Errorf("a limit that is not set is shown as something else:\n%s", none)
	}
	for name, values := range map[string][]string{
		"PROMPTOPS_DAILY_BUDGET_USD":         {"-1", "25,50", "1e3", "$25", "a lot", ".5", "5.", "1234567890", "0.1234567890"},
		"PROMPTOPS_LEARNER_DAILY_BUDGET_USD": {"-0.5", "none"},
		"PROMPTOPS_RUNS_PER_MINUTE":          {"0", "-1", "601", "1.5", "many"},
		"PROMPTOPS_CONCURRENT_RUNS":          {"0", "1001", "two"},
		"PROMPTOPS_SHUTDOWN_TIMEOUT":         {"-1s", "61m", "30", "soon"},
		"PROMPTOPS_LOG_DAYS":                 {"0", "401", "-1", "many", "1.5"},
	} {
		for _, value := range values {
			if _, err := config.Load([]string{name + "=" + value}); err == nil || !strings.HasPrefix(err.Error(), name+": ") || strings.ContainsAny(err.Error(), "\n*") || strings.Contains(err.Error(), "Duration") {
				t.Errorf("%s=%s: %v", name, value, err)
			}
		}
	}
}

func TestSecretsAreRedacted(t *testing.T) {
	c, err := config.Load([]string{
		"DATABASE_URL=postgres://u:hunter2@db/x?password=hunter3", "PROMPTOPS_MASTER_KEYS=1:hunter4",
		"SUPABASE_JWT_SECRET=hunter5", "PROMPTOPS_METRICS_TOKEN=hunter6-with-enough", "OTEL_EXPORTER_OTLP_HEADERS=authorization=hunter7",
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

func TestOTLPHeaders(t *testing.T) {
	for list, want := range map[string]map[string]string{
		"":                                    {},
		"authorization=Bearer%20abc%3D":       {"authorization": "Bearer abc="},
		" x-team = ops ,, authorization=a=b=": {"x-team": "ops", "authorization": "a=b="},
		"a=b,c":                               nil,
		"=b":                                  nil,
		"two words=b":                         nil,
		"a=%zz":                               nil,
		"a=b%0d%0aX: y":                       nil,
	} {
		c, err := config.Load([]string{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318/", "OTEL_EXPORTER_OTLP_HEADERS=" + list})
		if (err != nil) != (want == nil) || c.OTLPURL != "http://127.0.0.1:4318" || c.OTLPService != "promptops" {
			t.Errorf("%q: %v", list, err)
		}
		if diff := cmp.Diff(want, c.OTLPHeaderMap()); diff != "" {
			t.Errorf("%q (-want +got):\n%s", list, diff)
		}
	}
}

func TestReplica(t *testing.T) {
	const database = "DATABASE_URL=postgres://u:p@db/x"
	base := []string{"PROMPTOPS_MASTER_KEYS=1:abc", "SUPABASE_URL=https://ref.supabase.co"}
	c, err := config.Load(append(base, database, "DATABASE_REPLICA_URL=postgres://u:hunter2@replica:5433/x?sslmode=require"))
	if err != nil || !strings.Contains(c.Replica, "hunter2") {
		t.Fatalf("%q, %v", c.Replica, err)
	}
	if text := c.String(); strings.Contains(text, "hunter2") || !strings.Contains(text, "DATABASE_REPLICA_URL=postgres://u@replica:5433/x\n") {
		t.Errorf("printed as %s", text)
	}
	for want, environ := range map[string][]string{
		"DATABASE_REPLICA_URL: must look like": append(base, database, "DATABASE_REPLICA_URL=mysql://u:hunter2@replica/x"),
		"of no use without DATABASE_URL":       {"DATABASE_REPLICA_URL=postgres://u:hunter2@replica/x"},
	} {
		if _, err := config.Load(environ); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
