package handlers_test

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"golang.org/x/net/html"

	"github.com/promptcademy/promptops/internal/account"
	"github.com/promptcademy/promptops/internal/audit"
)

// One real run: the answer, the rows, the page and the file say the same, to the
// last digit.
func TestUsageIsWhatTheRunAnswered(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic", "google", "mistral")
	ada := s.learner("ada@example.org")
	s.ownKey(ada, "openai")
	models := []string{"openai/gpt-5-mini", "anthropic/claude-haiku-5-5", "google/gemini-3.8-flash", "mistral/nobody-has-a-price", "openai/gpt-5-mini-fault-401"}
	answer := s.visitor().run(s.token(ada), `{"prompt":"`+strings.Repeat("Explain RAG to a chef. ", 300)+`","models":["`+strings.Join(models, `","`)+`"]}`).
		wants(t, http.StatusOK).run(t)
	if answer.Status != "partial" || answer.Results[3].Cost != "" || answer.Results[0].Cost == "" {
		t.Fatalf("want a partial run, priced but for the fourth model: %+v", answer)
	}

	rows := map[string]string{} // by model: status, tokens, cost, key source
	found, err := s.DB.Query(t.Context(), `
		select model, concat_ws(' ', status, input_tokens, output_tokens, trim_scale(cost_usd), key_source)
		from public.prompt_attempts where run_id = $1`, answer.RequestID)
	must(t, err)
	var model, row string
	_, err = pgx.ForEachRow(found, []any{&model, &row}, func() error { rows[model] = row; return nil })
	must(t, err)

	admin := s.as(account.RoleAdmin)
	page := admin.get("/usage?range=today").wants(t, http.StatusOK)
	shown := byFirst(tableOf(t, page.Text, "Usage by model as a table"))
	file := byModel(t, readCSV(t, admin.get("/usage.csv?range=today").wants(t, http.StatusOK).Text))
	for _, r := range answer.Results {
		name := r.Model[strings.Index(r.Model, "/")+1:]
		want := map[string]string{
			"row":  strings.Join(nonEmpty(r.Status, number(r.Usage.InputTokens, r.Status), number(r.Usage.OutputTokens, r.Status), r.Cost.String(), r.KeySource), " "),
			"page": grouped(r.Usage.InputTokens) + " " + grouped(r.Usage.OutputTokens) + " " + exact(r.Cost),
			"file": whole(r.Usage.InputTokens) + " " + whole(r.Usage.OutputTokens) + " " + r.Cost.String(),
		}
		got := map[string]string{
			"row":  rows[r.Model],
			"page": shown[name]["Input"] + " " + shown[name]["Output"] + " " + shown[name]["Cost, USD"],
			"file": file[r.Model]["input_tokens"] + " " + file[r.Model]["output_tokens"] + " " + file[r.Model]["cost_usd"],
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-answer +elsewhere):\n%s", r.Model, diff)
		}
	}
	if got := shown["Total"]["Cost, USD"]; got != exact(answer.TotalCost) {
		t.Errorf("the page's total is %s, the answer's %s", got, answer.TotalCost)
	}
	if got := shown["Total"]["Unpriced"]; got != "1" {
		t.Errorf("unpriced on the page: %q, want 1", got)
	}
	page.shows(t, "1 unpriced", `title="`+exact(answer.TotalCost)+`"`)
	total := s.count(t, `select total_tokens from public.prompt_runs where id = $1 and total_cost_usd = $2::text::numeric`, answer.RequestID, answer.TotalCost.String())
	if total != answer.TotalTokens {
		t.Errorf("the run's row has %d tokens, the answer %d", total, answer.TotalTokens)
	}
}

// Half a year of demo data: every line of the page and of the file equals what
// other SQL than ours counts, with filters and without.
func TestUsageEqualsTheRows(t *testing.T) {
	t.Parallel()
	s := newSite(t).withDemo()
	admin := s.as(account.RoleAdmin)
	var team uuid.UUID
	must(t, s.DB.QueryRow(t.Context(), `select team_id from public.prompt_attempts where team_id is not null group by 1 order by count(*) desc limit 1`).Scan(&team))
	day := s.Clock.Now().UTC().Truncate(24 * time.Hour)
	for query, where := range map[string]string{
		"range=180d":                       `created_at >= '` + day.AddDate(0, 0, -179).Format(time.DateOnly) + `'`,
		"range=7d&provider=anthropic":      `created_at >= '` + day.AddDate(0, 0, -6).Format(time.DateOnly) + `' and provider = 'anthropic'`,
		"range=90d&key=user":               `created_at >= '` + day.AddDate(0, 0, -89).Format(time.DateOnly) + `' and key_source = 'user'`,
		"range=180d&team=" + team.String(): `created_at >= '` + day.AddDate(0, 0, -179).Format(time.DateOnly) + `' and team_id = '` + team.String() + `'`,
		"from=2026-10-05&to=2026-10-11":    `created_at >= '2026-10-05' and created_at < '2026-10-12'`,
	} {
		began := time.Now()
		page := admin.get("/usage?"+query).wants(t, http.StatusOK)
		t.Logf("%s took %s", query, time.Since(began).Round(time.Millisecond))
		got := byFirst(tableOf(t, page.Text, "Usage by model as a table"))
		rows, err := s.DB.Query(t.Context(), `
			select coalesce(substr(model, strpos(model, '/') + 1), 'Total'),
			       jsonb_build_object(
			         'Attempts', to_char(count(*), 'FM999,999,990'),
			         'Errors', to_char(sum((status in ('error', 'interrupted'))::int), 'FM999,999,990'),
			         'Input', to_char(sum(input_tokens), 'FM999,999,999,990'),
			         'Cached', to_char(sum(cached_input_tokens), 'FM999,999,999,990'),
			         'Output', to_char(sum(output_tokens), 'FM999,999,999,990'),
			         'Reasoning', to_char(sum(reasoning_tokens), 'FM999,999,999,990'),
			         'Cost, USD', case when coalesce(sum(cost_usd), 0) = 0 and bool_or(cost_usd is null and status <> 'running') then 'Unpriced'
			                      else to_char(coalesce(sum(cost_usd), 0), 'FM$999,999,990.00999999999999') end)
			from public.prompt_attempts
			where `+where+` and created_at < '`+day.AddDate(0, 0, 1).Format(time.DateOnly)+`'
			group by rollup (model)`)
		must(t, err)
		var model string
		var want map[string]string
		lines := 0
		_, err = pgx.ForEachRow(rows, []any{&model, &want}, func() error {
			lines++
			for column, value := range want {
				if got[model][column] != value {
					t.Errorf("%s: %s of %s is %q, want %q", query, column, model, got[model][column], value)
				}
			}
			want = nil
			return nil
		})
		must(t, err)
		if lines < 2 || lines != len(got) {
			t.Errorf("%s: %d lines, want %d", query, len(got), lines)
		}

		var fileDays, fileCost string
		must(t, s.DB.QueryRow(t.Context(), `
			select count(distinct (created_at at time zone 'UTC')::date || model)::text, coalesce(trim_scale(sum(cost_usd))::text, '0')
			from public.prompt_attempts where `+where).Scan(&fileDays, &fileCost))
		file := readCSV(t, admin.get("/usage.csv?"+query).wants(t, http.StatusOK).Text)
		if days := whole(int64(len(file) - 1)); days != fileDays {
			t.Errorf("%s: the file has %s lines, want %s", query, days, fileDays)
		}
		if sum := s.sum(t, column(file, "cost_usd")); sum != fileCost {
			t.Errorf("%s: the file's costs add up to %s, want %s", query, sum, fileCost)
		}
	}

	weight := admin.get("/usage?range=180d", "Accept-Encoding", "gzip")
	if len(weight.Text) > 60<<10 {
		t.Errorf("the page is %d bytes on its way; want at most 60 KB beside cached assets", len(weight.Text))
	}
}

func TestUsageFiltersStandInTheURL(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic")
	ada := s.token(s.learner("ada@example.org"))
	s.visitor().run(ada, `{"prompt":"Hello","models":["openai/gpt-5-mini","anthropic/claude-haiku-5-5"]}`).wants(t, http.StatusOK)
	admin := s.as(account.RoleAdmin)

	page := admin.get("/usage?range=7d&provider=anthropic&key=fallback").wants(t, http.StatusOK)
	page.shows(t, `value="7d" checked`, `value="anthropic" selected`, `value="fallback" selected`, `value="openai"`, // what else there is to choose
		`href="/usage.csv?key=fallback&amp;provider=anthropic&amp;range=7d"`)
	if models := byFirst(tableOf(t, page.Text, "Usage by model as a table")); len(models) != 2 || models["claude-haiku-5-5"] == nil {
		t.Errorf("models shown: %v", models)
	}

	fragment := admin.get("/usage?range=7d&provider=anthropic", "HX-Request", "true").wants(t, http.StatusOK)
	if strings.Contains(fragment.Text, "<html") || fragment.Header.Get("Vary") != "HX-Request" && !strings.Contains(strings.Join(fragment.Header.Values("Vary"), ","), "HX-Request") {
		t.Errorf("htmx does not get a fragment that caches tell apart: Vary %v", fragment.Header.Values("Vary"))
	}
	fragment.shows(t, "claude-haiku-5-5", `id="filters"`)

	narrow := admin.get("/usage?model=openai%2Fnever-used").wants(t, http.StatusOK)
	narrow.shows(t, "No runs in this period", "Clear the filters", `value="openai/never-used" selected`)
}

func TestUsageRefusesFiltersByName(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	for query, fields := range map[string][]string{
		"range=soon":                           {"range"},
		"team=mine&key=stolen":                 {"team", "key"},
		"from=2026-13-01&to=x":                 {"from", "to"},
		"from=2026-11-20&to=2026-11-10":        {"to"},
		"from=1999-01-01":                      {"from"},
		"provider=" + strings.Repeat("x", 300): {"provider"},
		"model=%ff&provider=%00":               {"model", "provider"},
	} {
		page := admin.get("/usage?"+query).wants(t, http.StatusUnprocessableEntity).shows(t, append(fields, `id="filters"`, "The filters could not be used")...)
		if !strings.Contains(page.Text, `value="30d" checked`) {
			t.Errorf("%s: the page does not fall back to 30 days", query)
		}
		admin.get("/usage.csv?"+query).wants(t, http.StatusUnprocessableEntity).shows(t, fields...)
	}
	evil := `"><script>alert(1)</script>`
	if page := admin.get("/usage?model="+url.QueryEscape(evil)).wants(t, http.StatusOK); strings.Contains(page.Text, "<script>alert") {
		t.Error("a filter's value reaches the page as markup")
	}
}

func TestUsageWithoutRuns(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	admin := s.as(account.RoleAdmin)
	page := admin.get("/usage").wants(t, http.StatusOK).shows(t, "No runs in this period", `href="/playground"`)
	if strings.Contains(page.Text, "Demo data") || strings.Contains(page.Text, "<canvas") {
		t.Error("an empty page shows data")
	}
	file := admin.get("/usage.csv").wants(t, http.StatusOK)
	if rows := readCSV(t, file.Text); len(rows) != 1 || rows[0][0] != "date" {
		t.Errorf("the file is %q, want only its header", file.Text)
	}
	kind, params, err := mime.ParseMediaType(file.Header.Get("Content-Disposition"))
	if err != nil || kind != "attachment" || params["filename"] != "ai-usage-2026-10-26-to-2026-11-24.csv" {
		t.Errorf("Content-Disposition is %q", file.Header.Get("Content-Disposition"))
	}
	if got := file.Header.Get("Content-Type"); got != "text/csv; charset=utf-8" {
		t.Errorf("Content-Type is %q", got)
	}
}

// Days begin at midnight where the operator is.
func TestUsageInTheOperatorsZone(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	s.Clock.Advance(11*time.Hour + 30*time.Minute) // 23:30 UTC, half past midnight of the 25th in Berlin
	s.visitor().run(s.token(s.learner("ada@example.org")), `{"prompt":"Hello","models":["openai/gpt-5-mini"]}`).wants(t, http.StatusOK)
	operator, err := s.Accounts.Create(t.Context(), audit.CommandLine, account.NewOperator{Email: "berlin@example.org", Role: account.RoleAdmin, Timezone: "Europe/Berlin"}, s.Clock.Now())
	must(t, err)
	file := readCSV(t, s.visitor(s.session(operator)).get("/usage.csv?range=today").wants(t, http.StatusOK).Text)
	if len(file) != 2 || file[1][0] != "2026-11-25" {
		t.Errorf("the file is %v, want one line on 2026-11-25", file)
	}
	s.visitor(s.session(operator)).get("/usage?range=today").shows(t, "25 Nov 2026", "Europe/Berlin")
}

// tableOf returns the lines of the table in the element with that aria-label,
// as text.
func tableOf(t *testing.T, page, label string) [][]string {
	t.Helper()
	document, err := html.Parse(strings.NewReader(page))
	must(t, err)
	var lines [][]string
	for n := range document.Descendants() {
		if n.Type != html.ElementNode || n.Data != "tr" || !within(n, label) {
			continue
		}
		var line []string
		for cell := range n.ChildNodes() {
			if cell.Type == html.ElementNode {
				line = append(line, textOf(cell))
			}
		}
		lines = append(lines, line)
	}
	if len(lines) == 0 {
		t.Fatalf("the page has no table %q", label)
	}
	return lines
}

func within(n *html.Node, label string) bool {
	for parent := range n.Ancestors() {
		for _, attribute := range parent.Attr {
			if attribute.Key == "aria-label" && attribute.Val == label {
				return true
			}
		}
	}
	return false
}

func textOf(n *html.Node) string {
	var text strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			text.WriteString(d.Data)
		}
	}
	return strings.TrimSpace(text.String())
}

// byFirst names every line of a table by its first cell and every cell by its
// column.
func byFirst(lines [][]string) map[string]map[string]string {
	found := map[string]map[string]string{}
	for _, line := range lines[1:] {
		found[line[0]] = map[string]string{}
		for i, cell := range line {
			found[line[0]][lines[0][i]] = cell
		}
	}
	return found
}

func readCSV(t *testing.T, text string) [][]string {
	t.Helper()
	if strings.Count(text, "\n") != strings.Count(text, "\r\n") {
		t.Error("lines of the file do not end in CRLF, as RFC 4180 has it")
	}
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	must(t, err)
	return rows
}

func byModel(t *testing.T, file [][]string) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	for _, row := range file[1:] {
		line := map[string]string{}
		for i, cell := range row {
			line[file[0][i]] = cell
		}
		found[line["model"]] = line
	}
	return found
}

func column(file [][]string, name string) []string {
	var values []string
	for i, head := range file[0] {
		for _, row := range file[1:] {
			if head == name && row[i] != "" {
				values = append(values, row[i])
			}
		}
	}
	return values
}

// sum adds decimal numbers without losing a digit.
func (s *site) sum(t *testing.T, numbers []string) (total string) {
	t.Helper()
	must(t, s.DB.QueryRow(t.Context(), `select coalesce(trim_scale(sum(n::numeric))::text, '0') from unnest($1::text[]) n`, numbers).Scan(&total))
	return total
}

// exact is an amount below a thousand dollars as the page writes it; "Unpriced"
// for one that is not known.
func exact(n json.Number) string {
	if n == "" {
		return "Unpriced"
	}
	wholeDollars, fraction, _ := strings.Cut(n.String(), ".")
	for len(fraction) < 2 {
		fraction += "0"
	}
	return "$" + wholeDollars + "." + fraction
}

func whole(n int64) string { return strconv.FormatInt(n, 10) }

// grouped is a number below a million as the page writes it.
func grouped(n int64) string {
	if n < 1000 {
		return whole(n)
	}
	return whole(n/1000) + fmt.Sprintf(",%03d", n%1000)
}

// number is a count as a row of the database has it: nothing where the attempt
// failed.
func number(n int64, status string) string {
	if status != "ok" {
		return ""
	}
	return whole(n)
}

func nonEmpty(parts ...string) []string {
	return slices.DeleteFunc(parts, func(part string) bool { return part == "" })
}
