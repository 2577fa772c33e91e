// Package config reads the environment once, at start. A wrong value stops the
// start with every problem named; nothing else in the program looks at the
// environment.
package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
	"golang.org/x/net/http/httpguts"
)

// Config is the effective configuration. The zero value is not usable; Load
// makes one. Fields tagged secret are redacted by Settings.
type Config struct {
	DatabaseURL    string   `env:"DATABASE_URL" secret:"url"`
	Replica        string   `env:"DATABASE_REPLICA_URL" secret:"url"`
	DataDir        string   `env:"PROMPTOPS_DATA_DIR" envDefault:"./data"`
	Port           string   `env:"PORT" envDefault:"8080"`
	Listen         string   `env:"PROMPTOPS_LISTEN"`
	BaseURL        string   `env:"PROMPTOPS_BASE_URL"`
	TrustedProxies []string `env:"PROMPTOPS_TRUSTED_PROXIES"`
	MasterKeys     string   `env:"PROMPTOPS_MASTER_KEYS" secret:"whole"`
	Timezone       string   `env:"PROMPTOPS_TIMEZONE" envDefault:"UTC"`

	ShutdownTimeout time.Duration `env:"PROMPTOPS_SHUTDOWN_TIMEOUT" envDefault:"30s"`

	LogDays int `env:"PROMPTOPS_LOG_DAYS" envDefault:"30"`

	DailyBudgetUSD        string `env:"PROMPTOPS_DAILY_BUDGET_USD"`
	LearnerDailyBudgetUSD string `env:"PROMPTOPS_LEARNER_DAILY_BUDGET_USD"`
	RunsPerMinute         *int   `env:"PROMPTOPS_RUNS_PER_MINUTE"`
	ConcurrentRuns        *int   `env:"PROMPTOPS_CONCURRENT_RUNS"`

	SupabaseURL       string   `env:"SUPABASE_URL"`
	SupabaseJWTSecret string   `env:"SUPABASE_JWT_SECRET" secret:"whole"`
	AllowAnonymous    bool     `env:"PROMPTOPS_ALLOW_ANONYMOUS" envDefault:"false"`
	CORSOrigins       []string `env:"PROMPTOPS_CORS_ORIGINS"`

	OpenAIBaseURL     string `env:"OPENAI_BASE_URL" provider:"openai"`
	AnthropicBaseURL  string `env:"ANTHROPIC_BASE_URL" provider:"anthropic"`
	GeminiBaseURL     string `env:"GEMINI_BASE_URL" provider:"google"`
	MistralBaseURL    string `env:"MISTRAL_BASE_URL" provider:"mistral"`
	OpenRouterBaseURL string `env:"OPENROUTER_BASE_URL" provider:"openrouter"`
	GroqBaseURL       string `env:"GROQ_BASE_URL" provider:"groq"`
	DeepSeekBaseURL   string `env:"DEEPSEEK_BASE_URL" provider:"deepseek"`
	XAIBaseURL        string `env:"XAI_BASE_URL" provider:"xai"`

	SlackWebhook          string   `env:"SLACK_WEBHOOK_URL" secret:"whole"`
	SMTP                  string   `env:"SMTP_URL" secret:"url"`
	MailFrom              string   `env:"PROMPTOPS_MAIL_FROM"`
	MailTo                []string `env:"PROMPTOPS_MAIL_TO"`
	AllowPrivateEndpoints *bool    `env:"PROMPTOPS_ALLOW_PRIVATE_ENDPOINTS"`

	MetricsListen string `env:"PROMPTOPS_METRICS_LISTEN"`
	MetricsToken  string `env:"PROMPTOPS_METRICS_TOKEN" secret:"whole"`
	OTLPURL       string `env:"OTEL_EXPORTER_OTLP_ENDPOINT"`
	OTLPHeaders   string `env:"OTEL_EXPORTER_OTLP_HEADERS" secret:"whole"`
	OTLPProtocol  string `env:"OTEL_EXPORTER_OTLP_PROTOCOL" envDefault:"http/protobuf"`
	OTLPService   string `env:"OTEL_SERVICE_NAME" envDefault:"promptops"`
}

// Embedded says whether the program brings its own Postgres.
func (c Config) Embedded() bool { return c.DatabaseURL == "" }

// PostgresDir is where the embedded server keeps its data.
func (c Config) PostgresDir() string { return filepath.Join(c.DataDir, "postgres") }

// Zone is the configured time zone, for days and budgets.
func (c Config) Zone() *time.Location {
	zone, err := time.LoadLocation(c.Timezone)
	if err != nil { // Load has checked it
		return time.UTC
	}
	return zone
}

// SecureCookies says whether browsers reach us by HTTPS.
func (c Config) SecureCookies() bool { return strings.HasPrefix(c.BaseURL, "https://") }

// ProviderBaseURLs maps provider ids to the addresses given in the environment.
func (c Config) ProviderBaseURLs() map[string]string {
	urls := map[string]string{}
	eachField(c, func(f reflect.StructField, v reflect.Value) {
		if id := f.Tag.Get("provider"); id != "" && v.String() != "" {
			urls[id] = v.String()
		}
	})
	return urls
}

// OTLPHeaderMap is what is sent along to the OTLP collector. Load has checked it.
func (c Config) OTLPHeaderMap() map[string]string {
	headers, _ := parseHeaders(c.OTLPHeaders)
	return headers
}

// parseHeaders reads name=value,name=value, values percent-encoded.
func parseHeaders(list string) (headers map[string]string, ok bool) {
	headers = map[string]string{}
	for pair := range strings.SplitSeq(list, ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		name, value, found := strings.Cut(pair, "=")
		name = strings.TrimSpace(name)
		value, err := url.PathUnescape(strings.TrimSpace(value))
		if !found || err != nil || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, false
		}
		headers[name] = value
	}
	return headers, true
}

// Load reads environ (as from os.Environ), fills in defaults and checks every
// value. The error names every problem, one per line, and never a secret.
func Load(environ []string) (Config, error) {
	var c Config
	var problems []error
	if err := env.ParseWithOptions(&c, env.Options{Environment: env.ToMap(environ)}); err != nil {
		aggregate, ok := errors.AsType[env.AggregateError](err)
		if !ok {
			return c, err
		}
		for _, e := range aggregate.Errors {
			problems = append(problems, describe(e))
		}
	}
	c.normalise()
	unreadable := len(problems)
	for _, problem := range c.check() {
		name, _, _ := strings.Cut(problem.Error(), ":")
		if !slices.ContainsFunc(problems[:unreadable], func(e error) bool { return strings.HasPrefix(e.Error(), name+":") }) {
			problems = append(problems, problem)
		}
	}
	return c, errors.Join(problems...)
}

// describe words a parse error by the variable's name, without its value.
func describe(err error) error {
	if p, ok := errors.AsType[env.ParseError](err); ok {
		f, _ := reflect.TypeFor[Config]().FieldByName(p.Name)
		return fmt.Errorf("%s: must be %s", f.Tag.Get("env"), cmp.Or(inWords[f.Type], "a valid "+f.Type.String()))
	}
	return err
}

// inWords are the types of values that can be mistyped.
var inWords = map[reflect.Type]string{
	reflect.TypeFor[bool]():          "true or false",
	reflect.TypeFor[*bool]():         "true or false",
	reflect.TypeFor[*int]():          "a whole number",
	reflect.TypeFor[int]():           "a whole number",
	reflect.TypeFor[time.Duration](): "a time with its unit, like 30s or 5m",
}

func (c *Config) normalise() {
	if c.Listen == "" {
		host := ""
		if c.Embedded() {
			host = "127.0.0.1"
		}
		c.Listen = net.JoinHostPort(host, c.Port)
	}
	if c.AllowPrivateEndpoints == nil { // on one's own machine they are what is tried first: Ollama, say
		c.AllowPrivateEndpoints = new(c.Embedded())
	}
	if c.BaseURL == "" {
		if host, port, err := net.SplitHostPort(c.Listen); err == nil {
			c.BaseURL = "http://" + net.JoinHostPort(cmp.Or(host, "localhost"), port)
		}
	}
	v := reflect.ValueOf(c).Elem()
	eachField(*c, func(f reflect.StructField, _ reflect.Value) {
		if f.Type.Kind() == reflect.String && strings.HasSuffix(f.Name, "URL") && f.Name != "DatabaseURL" {
			field := v.FieldByIndex(f.Index)
			field.SetString(strings.TrimRight(strings.TrimSpace(field.String()), "/"))
		}
	})
	c.SlackWebhook, c.SMTP, c.MailFrom = strings.TrimSpace(c.SlackWebhook), strings.TrimSpace(c.SMTP), strings.TrimSpace(c.MailFrom)
	for i, origin := range c.CORSOrigins {
		c.CORSOrigins[i] = strings.TrimRight(strings.TrimSpace(origin), "/")
	}
}

// dollars is an amount as people write it.
var dollars = regexp.MustCompile(`^\d{1,9}(\.\d{1,9})?$`)

const minMetricsToken = 16

func (c Config) check() []error {
	var problems []error
	bad := func(name, format string, args ...any) {
		problems = append(problems, fmt.Errorf("%s: %s", name, fmt.Sprintf(format, args...)))
	}
	listen := func(name, address, advice string) {
		if _, port, err := net.SplitHostPort(address); err != nil || port == "" {
			bad(name, "must be host:port or :port, like %s", advice)
		} else if n, err := net.LookupPort("tcp", port); err != nil || n < 0 {
			bad(name, "%q is not a port", port)
		}
	}
	listen("PROMPTOPS_LISTEN", c.Listen, "127.0.0.1:8080 (PORT alone sets just the port)")
	if c.MetricsListen != "" {
		listen("PROMPTOPS_METRICS_LISTEN", c.MetricsListen, "127.0.0.1:9090")
	}
	if c.MetricsToken != "" && (len(c.MetricsToken) < minMetricsToken || strings.ContainsFunc(c.MetricsToken, func(r rune) bool { return r <= ' ' || r > '~' })) {
		bad("PROMPTOPS_METRICS_TOKEN", "must have at least %d characters, all printable and none a space. Make one: openssl rand -hex 32", minMetricsToken)
	}
	if _, ok := parseHeaders(c.OTLPHeaders); !ok {
		bad("OTEL_EXPORTER_OTLP_HEADERS", "must be written name=value,name=value, with values percent-encoded")
	}
	if c.OTLPProtocol != "http/protobuf" {
		bad("OTEL_EXPORTER_OTLP_PROTOCOL", "must be http/protobuf: %q is not spoken here", c.OTLPProtocol)
	}
	if _, err := time.LoadLocation(c.Timezone); err != nil || c.Timezone == "Local" {
		bad("PROMPTOPS_TIMEZONE", "%q is not a time zone; write it like Europe/Berlin or UTC", c.Timezone)
	}
	if c.ShutdownTimeout < 0 || c.ShutdownTimeout > time.Hour {
		bad("PROMPTOPS_SHUTDOWN_TIMEOUT", "must be between 0s and 1h")
	}
	if c.LogDays < 1 || c.LogDays > 400 {
		bad("PROMPTOPS_LOG_DAYS", "must be between 1 and 400")
	}
	money := func(name, amount string) {
		if amount != "" && !dollars.MatchString(amount) {
			bad(name, "%q is not an amount of dollars; write it like 25 or 0.50", amount)
		}
	}
	money("PROMPTOPS_DAILY_BUDGET_USD", c.DailyBudgetUSD)
	money("PROMPTOPS_LEARNER_DAILY_BUDGET_USD", c.LearnerDailyBudgetUSD)
	limit := func(name string, n *int, most int) {
		if n != nil && (*n < 1 || *n > most) {
			bad(name, "must be between 1 and %d; leave it out for no limit", most)
		}
	}
	limit("PROMPTOPS_RUNS_PER_MINUTE", c.RunsPerMinute, 600)
	limit("PROMPTOPS_CONCURRENT_RUNS", c.ConcurrentRuns, 1000)
	c.checkChannels(bad)
	for _, cidr := range c.TrustedProxies {
		if _, err := netip.ParsePrefix(strings.TrimSpace(cidr)); err != nil {
			bad("PROMPTOPS_TRUSTED_PROXIES", "%q is not an address range; write it like 10.0.0.0/8", cidr)
		}
	}
	for _, origin := range c.CORSOrigins {
		u, err := url.Parse(origin)
		if err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.Path != "" || u.RawQuery != "" || strings.Contains(origin, "*") {
			bad("PROMPTOPS_CORS_ORIGINS", "%q is not an origin; write it like https://app.example.com, without path or wildcard", origin)
		}
	}
	eachField(c, func(f reflect.StructField, v reflect.Value) {
		if v.Kind() != reflect.String || !strings.HasSuffix(f.Name, "URL") || f.Name == "DatabaseURL" || v.String() == "" {
			return
		}
		if u, err := url.Parse(v.String()); err != nil || (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.User != nil || u.RawQuery != "" {
			bad(f.Tag.Get("env"), "must be an http or https address without credentials or query")
		}
	})
	if c.Replica != "" {
		if u, err := url.Parse(c.Replica); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
			bad("DATABASE_REPLICA_URL", "must look like postgres://user:password@host:5432/database")
		} else if c.Embedded() {
			bad("DATABASE_REPLICA_URL", "is of no use without DATABASE_URL: the embedded server has no replica")
		}
	}
	if c.Embedded() {
		return problems
	}
	if u, err := url.Parse(c.DatabaseURL); err != nil || (u.Scheme != "postgres" && u.Scheme != "postgresql") {
		bad("DATABASE_URL", "must look like postgres://user:password@host:5432/database")
	}
	if c.MasterKeys == "" {
		bad("PROMPTOPS_MASTER_KEYS", "is required with DATABASE_URL: provider keys are sealed with it. Make one: echo \"1:$(openssl rand -base64 32)\"")
	}
	if c.SupabaseURL == "" && c.SupabaseJWTSecret == "" {
		bad("SUPABASE_URL", "is required with DATABASE_URL (or SUPABASE_JWT_SECRET), to verify learners' tokens")
	}
	return problems
}

// Setting is one variable as it takes effect.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"` // secrets are redacted
}

// Settings lists every variable in the order of Config, secrets redacted.
func (c Config) Settings() []Setting {
	var settings []Setting
	eachField(c, func(f reflect.StructField, v reflect.Value) {
		if v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v = reflect.ValueOf("")
			} else {
				v = v.Elem()
			}
		}
		value := fmt.Sprint(v.Interface())
		if list, ok := v.Interface().([]string); ok {
			value = strings.Join(list, ",")
		}
		switch {
		case value == "":
		case f.Tag.Get("secret") == "whole":
			value = "[redacted]"
		case f.Tag.Get("secret") == "url":
			value = redactURL(value)
		}
		settings = append(settings, Setting{f.Tag.Get("env"), value})
	})
	return settings
}

// redactURL keeps where a database is and drops how to get in: a password may
// stand in the user part or in the query.
func redactURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "[redacted]"
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	u.RawQuery = ""
	return u.String()
}

// String redacts, so that a Config may be printed by mistake.
func (c Config) String() string {
	var b strings.Builder
	for _, s := range c.Settings() {
		fmt.Fprintf(&b, "%s=%s\n", s.Name, s.Value)
	}
	return b.String()
}

// GoString redacts too.
func (c Config) GoString() string { return c.String() }

func eachField(c Config, visit func(reflect.StructField, reflect.Value)) {
	v := reflect.ValueOf(c)
	for i := range v.NumField() {
		visit(v.Type().Field(i), v.Field(i))
	}
}
