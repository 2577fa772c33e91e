package handlers_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"mime"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v4"

	"github.com/promptcademy/promptops/handlers"
	"github.com/promptcademy/promptops/internal/fault"
	"github.com/promptcademy/promptops/internal/run"
)

// description is handlers/openapi.yaml, to check requests and answers by.
type description struct {
	document map[string]any

	mu       sync.Mutex
	compiler *jsonschema.Compiler
}

// described reads the description once. Its answers may gain fields, as far as
// clients are concerned; to the tests a field that is not described is a fault.
var described = sync.OnceValue(func() *description {
	var document any
	if err := yaml.Unmarshal(handlers.OpenAPIDocument, &document); err != nil {
		panic(err)
	}
	forbidOtherFields(document)
	text, err := json.Marshal(document)
	if err != nil {
		panic(err)
	}
	document, err = jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	d := &description{document: document.(map[string]any), compiler: jsonschema.NewCompiler()}
	d.compiler.AssertFormat()
	if err := d.compiler.AddResource("openapi.yaml", document); err != nil {
		panic(err)
	}
	return d
})

func forbidOtherFields(node any) {
	switch node := node.(type) {
	case map[string]any:
		for _, child := range node {
			forbidOtherFields(child)
		}
		if _, says := node["additionalProperties"]; node["type"] == "object" && node["properties"] != nil && !says {
			node["unevaluatedProperties"] = false
		}
	case []any:
		for _, child := range node {
			forbidOtherFields(child)
		}
	}
}

// at returns what stands at a path of the document, references followed, and
// where it stands as a JSON pointer. It is nil if there is no such thing.
func (d *description) at(path ...string) (any, string) {
	var node any = d.document
	pointer := ""
	for _, name := range path {
		object, _ := node.(map[string]any)
		node = object[name]
		pointer += "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(name)
		object, _ = node.(map[string]any)
		if reference, is := object["$ref"].(string); is {
			pointer = strings.TrimPrefix(reference, "#")
			node, pointer = d.at(strings.Split(pointer, "/")[1:]...)
		}
	}
	return node, pointer
}

func (d *description) has(path ...string) bool {
	node, _ := d.at(path...)
	return node != nil
}

// names lists the fields of the object at a path.
func (d *description) names(path ...string) []string {
	node, _ := d.at(path...)
	object, _ := node.(map[string]any)
	names := []string{}
	for name := range object {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// check checks a JSON text by the schema at a path.
func (d *description) check(text string, path ...string) error {
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return d.checkValue(value, path...)
}

func (d *description) checkValue(value any, path ...string) error {
	node, pointer := d.at(path...)
	if node == nil {
		return fmt.Errorf("%s is not described", strings.Join(path, " "))
	}
	d.mu.Lock()
	schema, err := d.compiler.Compile("openapi.yaml#" + pointer)
	d.mu.Unlock()
	if err != nil {
		return err
	}
	return schema.Validate(value)
}

// ofRun is the path to something of the run endpoint.
func ofRun(path ...string) []string {
	return append([]string{"paths", runPath, "post"}, path...)
}

func (d *description) checkRequest(body string) error {
	return d.check(body, ofRun("requestBody", "content", "application/json", "schema")...)
}

// operation is the path to what describes a request: at an address that does not
// take its method, one of those that it takes. It is nil where nothing does.
func (d *description) operation(method, address string) []string {
	for _, described := range d.names("paths") {
		pattern := regexp.MustCompile("^" + regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(described), "[^/]+") + "$")
		if !pattern.MatchString(address) {
			continue
		}
		if operation := []string{"paths", described, strings.ToLower(method)}; d.has(operation...) {
			return operation
		}
		return []string{"paths", described, d.names("paths", described)[0]}
	}
	return nil
}

// checkAnswer checks an answer to an operation: status, headers, body.
func (d *description) checkAnswer(operation []string, a *answered) error {
	response := slices.Concat(operation, []string{"responses", strconv.Itoa(a.status)})
	if !d.has(response...) {
		return fmt.Errorf("status %d is not described", a.status)
	}
	at := func(path ...string) []string { return slices.Concat(response, path) }
	var problems []error
	for _, name := range d.names(at("headers")...) {
		value := a.Header().Get(name)
		if value == "" {
			if required, _ := d.at(at("headers", name, "required")...); required == true {
				problems = append(problems, fmt.Errorf("header %s is missing", name))
			}
			continue
		}
		var typed any = value
		if kind, _ := d.at(at("headers", name, "schema", "type")...); kind == "integer" {
			typed = json.Number(value)
		}
		if err := d.checkValue(typed, at("headers", name, "schema")...); err != nil {
			problems = append(problems, fmt.Errorf("header %s is %q: %w", name, value, err))
		}
	}
	for _, name := range []string{"Retry-After", "Idempotent-Replayed", "Server-Timing"} {
		if a.Header().Get(name) != "" && !d.has(at("headers", name)...) {
			problems = append(problems, fmt.Errorf("header %s is not described", name))
		}
	}
	mediaType, _, err := mime.ParseMediaType(a.Header().Get("Content-Type"))
	switch {
	case !d.has(at("content")...):
		if a.body.Len() > 0 {
			problems = append(problems, fmt.Errorf("there is a body"))
		}
	case err != nil || !d.has(at("content", mediaType)...):
		problems = append(problems, fmt.Errorf("content type %q is not described", a.Header().Get("Content-Type")))
	case mediaType == "text/event-stream":
		problems = append(problems, d.checkStream(a.body.String()))
	default:
		problems = append(problems, d.check(a.body.String(), at("content", mediaType, "schema")...))
	}
	return errors.Join(problems...)
}

// eventSchemas are where the events of a stream are described.
var eventSchemas = map[string]string{
	"start": "StartEvent", "delta": "DeltaEvent", "result": "ResultEvent", "done": "DoneEvent", "error": "ErrorEvent",
}

// checkStream checks the events of a stream that was read to its end, and their
// order.
func (d *description) checkStream(text string) error {
	events, err := readFrames(text)
	if err != nil {
		return err
	}
	over := map[string]bool{}
	for i, event := range events {
		if err := d.check(event.Data, "components", "schemas", eventSchemas[event.Event]); err != nil {
			return fmt.Errorf("event %v: %w", event, err)
		}
		var of struct{ Model string }
		if err := json.Unmarshal([]byte(event.Data), &of); err != nil {
			return err
		}
		isLast := event.Event == "done" || event.Event == "error"
		if (event.Event == "start") != (i == 0) || isLast != (i == len(events)-1) || over[of.Model] {
			return fmt.Errorf("event %d of %d comes too early, too late or too often: %v", i+1, len(events), event)
		}
		over[of.Model] = event.Event == "result"
	}
	return nil
}

// answered is an answer while it is written, and what there was of it.
type answered struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (a *answered) WriteHeader(status int) {
	if a.status == 0 && status >= 200 {
		a.status = status
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answered) Write(data []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	a.body.Write(data)
	return a.ResponseWriter.Write(data)
}

// Unwrap is for http.ResponseController.
func (a *answered) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// asDescribed checks every answer of the API by its description, and every
// request that was accepted, whatever the test is about. Preflights, HEAD and
// callers who left are none of the description's business.
func asDescribed(t testing.TB, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var operation []string
		if strings.HasPrefix(r.URL.Path, "/api/") {
			operation = described().operation(r.Method, r.URL.Path)
		}
		if operation == nil || r.Method == http.MethodOptions || r.Method == http.MethodHead {
			next.ServeHTTP(w, r)
			return
		}
		var sent bytes.Buffer
		r.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(r.Body, &sent), r.Body}
		answer := &answered{ResponseWriter: w}
		next.ServeHTTP(answer, r)
		if r.Context().Err() != nil {
			return
		}
		if err := described().checkAnswer(operation, answer); err != nil {
			t.Errorf("%s %s answers %d, not as handlers/openapi.yaml says: %v\n%.2000s", r.Method, r.URL, answer.status, err, &answer.body)
		}
		schema := slices.Concat(operation, []string{"requestBody", "content", "application/json", "schema"})
		if answer.status/100 == 2 && described().has(schema...) {
			if err := described().check(sent.String(), schema...); err != nil {
				t.Errorf("a request is accepted that handlers/openapi.yaml forbids: %v\n%.2000s", err, &sent)
			}
		}
	})
}

// The document is what it says it is, and its examples are examples of it.
func TestDescriptionIsValid(t *testing.T) {
	t.Parallel()
	document, err := openapi3.NewLoader().LoadFromData(handlers.OpenAPIDocument)
	must(t, err)
	must(t, document.Validate(t.Context(), openapi3.EnableMultiError(), openapi3.IsOpenAPI31OrLater()))
	if document.OpenAPI != "3.1.0" {
		t.Errorf("openapi is %s", document.OpenAPI)
	}

	d := described()
	for _, address := range d.names("paths") {
		for _, method := range d.names("paths", address) {
			of := func(path ...string) []string { return append([]string{"paths", address, method}, path...) }
			if d.has(of("requestBody")...) {
				checkExamples(t, d, of("requestBody", "content", "application/json"))
			}
			for _, status := range d.names(of("responses")...) {
				if d.has(of("responses", status, "content")...) {
					checkExamples(t, d, of("responses", status, "content", "application/json"))
				}
			}
		}
	}
	checkSchemaExamples(t, d, []string{"components"})
	stream, _ := d.at(ofRun("responses", "200", "content", "text/event-stream", "examples", "stream", "value")...)
	must(t, d.checkStream(stream.(string)))
}

// checkExamples checks the examples of a media type, of which there has to be
// one.
func checkExamples(t *testing.T, d *description, path []string) {
	t.Helper()
	at := func(more ...string) []string { return slices.Concat(path, more) }
	examples := map[string]any{}
	if example, _ := d.at(at("example")...); example != nil {
		examples["example"] = example
	}
	for _, name := range d.names(at("examples")...) {
		examples[name], _ = d.at(at("examples", name, "value")...)
	}
	if len(examples) == 0 {
		t.Errorf("%v: there is no example", path)
	}
	for name, example := range examples {
		if err := d.checkValue(example, at("schema")...); err != nil {
			t.Errorf("%v: example %s: %v", path, name, err)
		}
	}
}

// checkSchemaExamples checks the examples of every schema below a path.
func checkSchemaExamples(t *testing.T, d *description, path []string) {
	t.Helper()
	at := func(more ...string) []string { return slices.Concat(path, more) }
	examples, _ := d.at(at("examples")...)
	list, _ := examples.([]any)
	for _, example := range list {
		if err := d.checkValue(example, path...); err != nil {
			t.Errorf("%v: example %v: %v", path, example, err)
		}
	}
	node, _ := d.at(path...)
	object, _ := node.(map[string]any)
	for name, child := range object {
		if reference, _ := child.(map[string]any); reference["$ref"] == nil {
			checkSchemaExamples(t, d, at(name))
		}
	}
}

func TestDescriptionIsServed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	const path = "/api/openapi.yaml"
	answer := s.visitor().get(path, "Origin", frontend).wants(t, http.StatusOK)
	if answer.Text != string(handlers.OpenAPIDocument) {
		t.Errorf("%d bytes are not the document", len(answer.Text))
	}
	for name, want := range map[string]string{
		"Content-Type": "application/yaml", "Access-Control-Allow-Origin": frontend, "Cache-Control": "public, max-age=300",
	} {
		if got := answer.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	tag := answer.Header.Get("ETag")
	if again := s.visitor().get(path, "If-None-Match", tag).wants(t, http.StatusNotModified); tag == "" || again.Text != "" {
		t.Errorf("ETag %s, and then %d bytes", tag, len(again.Text))
	}
	s.visitor().get(path, "If-None-Match", `"another"`).wants(t, http.StatusOK)
	s.visitor().send(http.MethodHead, path, nil).wants(t, http.StatusOK)
}

// What the schema of requests allows is what the endpoint accepts.
func TestDescriptionOfRequests(t *testing.T) {
	t.Parallel()
	isProvider := func(id string) bool { return id == "openai" }
	const models = `"models":["openai/a"]`
	const ok = `"prompt":"x",` + models
	const id = `"9b2e6f5c-0c0f-4a53-9a9e-6f1f2b1f7f11"`
	list := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	numbered := func(n int, item string) string {
		var items []string
		for i := range n {
			items = append(items, fmt.Sprintf(item, i))
		}
		return strings.Join(items, ",")
	}
	const user = `{"role":"user","content":"x"}`

	accepted := []string{
		`{` + ok + `}`,
		`{` + ok + `,"system":"","stream":true,"config":{},"teamId":` + id + `}`,
		`{` + ok + `,"system":null,"messages":null,"config":null,"templateId":null,"variables":null,"teamId":null,"stream":null}`,
		`{` + ok + `,"config":{"temperature":null,"maxTokens":null,"topP":null,"stop":null,"timeoutMs":null}}`,
		`{` + ok + `,"config":{"temperature":0,"maxTokens":1,"topP":0,"stop":[],"timeoutMs":100}}`,
		`{` + ok + `,"config":{"temperature":2,"maxTokens":1000000,"topP":1,"stop":` + list(16, `"."`) + `,"timeoutMs":300000}}`,
		`{` + models + `,"messages":[{"role":"system","content":"x"},` + user + `,{"role":"assistant","content":"x"}]}`,
		`{` + models + `,"messages":` + list(500, user) + `,"system":"x"}`,
		`{` + models + `,"templateId":` + id + `}`,
		`{` + models + `,"templateId":"9B2E6F5C-0C0F-4A53-9A9E-6F1F2B1F7F11","prompt":null}`,
		`{` + ok + `,"templateId":` + id + `,"variables":{}}`,
		`{` + models + `,"templateId":` + id + `,"variables":{` + numbered(99, `"a%d":"x"`) + `,"b":null}}`,
		`{` + models + `,"templateId":` + id + `,"messages":[` + user + `],"variables":{"a":""}}`,
		`{"prompt":"x","models":[` + numbered(8, `"openai/%d"`) + `]}`,
		`{"prompt":"x","models":["openai/` + strings.Repeat("x", 193) + `"]}`,
		`{"prompt":"x","models":["openai/meta/llama:free","openai/Ä"]}`,
	}
	refused := []string{
		`null`, `[]`, `{}`, `"x"`,
		`{` + models + `}`,
		`{"prompt":"x"}`,
		`{` + models + `,"prompt":null}`,
		`{` + models + `,"prompt":""}`,
		`{` + models + `,"prompt":" \n\t"}`,
		`{` + models + `,"prompt":"a\u0000b"}`,
		`{` + models + `,"prompt":7}`,
		`{` + ok + `,"PROMPT":"x"}`,
		`{` + ok + `,"n":null,"seed":1}`,
		`{` + ok + `,"messages":[` + user + `]}`,
		`{` + ok + `,"system":"\u0000"}`,
		`{` + ok + `,"stream":"yes"}`,
		`{` + models + `,"messages":[]}`,
		`{` + models + `,"messages":` + list(501, user) + `}`,
		`{` + models + `,"messages":[{"role":"system","content":"x"}]}`,
		`{` + models + `,"messages":[` + user + `,{"role":"tool","content":"x"}]}`,
		`{` + models + `,"messages":[` + user + `,{"role":"user","content":" "}]}`,
		`{` + models + `,"messages":[` + user + `,{"role":"user"}]}`,
		`{` + models + `,"messages":[` + user + `,{"content":"x"}]}`,
		`{` + models + `,"messages":[{"role":"user","content":"x","name":"y"}]}`,
		`{` + models + `,"messages":[{"role":"user","content":"\u0000"}]}`,
		`{` + models + `,"messages":[null]}`,
		`{"prompt":"x","models":null}`,
		`{"prompt":"x","models":[]}`,
		`{"prompt":"x","models":"openai/a"}`,
		`{"prompt":"x","models":[null]}`,
		`{"prompt":"x","models":["openai/a","openai/b","openai/a"]}`,
		`{"prompt":"x","models":[` + numbered(9, `"openai/%d"`) + `]}`,
		`{"prompt":"x","models":["openai/` + strings.Repeat("x", 194) + `"]}`,
		`{"prompt":"x","models":["gpt"]}`, `{"prompt":"x","models":["/gpt"]}`, `{"prompt":"x","models":["openai/"]}`,
		`{"prompt":"x","models":["openai/a b"]}`, `{"prompt":"x","models":["openai/a\u0000"]}`, `{"prompt":"x","models":["openai/a\u007f"]}`,
		`{` + ok + `,"config":[]}`, `{` + ok + `,"config":{"seed":1}}`,
		`{` + ok + `,"config":{"temperature":-0.1}}`, `{` + ok + `,"config":{"temperature":2.1}}`, `{` + ok + `,"config":{"temperature":"hot"}}`,
		`{` + ok + `,"config":{"topP":-0.1}}`, `{` + ok + `,"config":{"topP":1.1}}`,
		`{` + ok + `,"config":{"maxTokens":0}}`, `{` + ok + `,"config":{"maxTokens":1000001}}`, `{` + ok + `,"config":{"maxTokens":1.5}}`,
		`{` + ok + `,"config":{"timeoutMs":99}}`, `{` + ok + `,"config":{"timeoutMs":300001}}`,
		`{` + ok + `,"config":{"stop":"x"}}`, `{` + ok + `,"config":{"stop":[""]}}`, `{` + ok + `,"config":{"stop":["\u0000"]}}`,
		`{` + ok + `,"config":{"stop":[null]}}`, `{` + ok + `,"config":{"stop":` + list(17, `"."`) + `}}`,
		`{` + ok + `,"teamId":"mine"}`, `{` + ok + `,"teamId":"{9b2e6f5c-0c0f-4a53-9a9e-6f1f2b1f7f11}"}`, `{` + ok + `,"templateId":""}`,
		`{` + ok + `,"variables":{"a":"b"}}`, `{` + ok + `,"variables":{},"templateId":null}`,
		`{` + models + `,"templateId":` + id + `,"variables":{"a":1}}`,
		`{` + models + `,"templateId":` + id + `,"variables":{"a":"\u0000"}}`,
		`{` + models + `,"templateId":` + id + `,"variables":{` + numbered(101, `"a%d":"x"`) + `}}`,
	}
	check := func(bodies []string, want bool) {
		for _, body := range bodies {
			if _, err := run.ParseRequest([]byte(body), isProvider); (err == nil) != want {
				t.Errorf("accepted by the endpoint: %v, want %v: %.300s\n%v", err == nil, want, body, err)
			}
			if err := described().checkRequest(body); (err == nil) != want {
				t.Errorf("allowed by the description: %v, want %v: %.300s\n%v", err == nil, want, body, err)
			}
		}
	}
	check(accepted, true)
	check(refused, false)

	inWords := []string{ // what a schema cannot say
		"empty body", "only white space", "not JSON", "cut off", "two values", "invalid UTF-8",
		"somebody else's team", "unknown template",
	}
	for _, c := range rejections() {
		if (c.status == 400 || c.status == 422) && !slices.Contains(inWords, c.name) && described().checkRequest(c.body) == nil {
			t.Errorf("%s is rejected, but allowed by the description: %s", c.name, c.body)
		}
	}
	config, _ := described().at("components", "schemas", "Config", "properties", "timeoutMs", "default")
	if timeout := (run.Config{}).Timeout().Milliseconds(); config != json.Number(strconv.FormatInt(timeout, 10)) {
		t.Errorf("the default of timeoutMs is %d, %v by the description", timeout, config)
	}
}

// Runs of every kind, whole and streamed; asDescribed does the checking.
func TestRunsAreAsDescribed(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai", "anthropic", "google")
	ada := s.learner("ada@example.org")
	s.ownKey(ada, "anthropic")
	token := s.token(ada)
	faults := []string{
		"401", "402", "quota", "403", "404", "context", "filter", "429", "429-retry", "500", "503", "529", "hang", "hang-stream",
		"close-body", "close-stream", "end-stream", "garbage", "html", "empty", "error-in-200",
	}
	streamed := []string{"false", "true"}
	for _, stream := range streamed {
		for _, c := range []struct{ models, status string }{
			{`"openai/gpt-5-mini","anthropic/claude-haiku-5-5","google/gemini-3.8-flash","openai/nobody-knows-its-price"`, "success"},
			{`"openai/gpt-5-mini","mistral/without-a-key"`, "partial"},
			{`"mistral/without-a-key"`, "error"},
		} {
			answer := s.visitor().run(token, `{"prompt":"Hello","stream":`+stream+`,"models":[`+c.models+`]}`).wants(t, http.StatusOK)
			answer.shows(t, `"status":"`+c.status+`"`)
			if c.status == "success" {
				answer.shows(t, `"unpriced":1`, `"cost":null`)
			}
		}
	}
	for _, stream := range streamed { // last: a key does not get better by this
		for _, provider := range []string{"openai", "anthropic", "google"} {
			for some := range slices.Chunk(faults, run.MaxModels) {
				var models []string
				for _, fault := range some {
					models = append(models, fmt.Sprintf(`"%s/x-fault-%s"`, provider, fault))
				}
				body := `{"prompt":"Hello","config":{"timeoutMs":300},"stream":` + stream + `,"models":[` + strings.Join(models, ",") + `]}`
				s.visitor().run(token, body).wants(t, http.StatusOK)
			}
		}
	}
}

// A stream ends with error, not done, if the outcome cannot be recorded.
func TestStreamWithoutADatabaseIsAsDescribed(t *testing.T) {
	t.Parallel()
	s := newSite(t).withKeys("openai")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+runPath,
		strings.NewReader(`{"prompt":"Hello","models":["openai/x-fault-hang-stream"],"config":{"timeoutMs":3000},"stream":true}`))
	must(t, err)
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+s.token(s.learner("ada@example.org")))
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() && lines.Text() != "event: delta" {
	}
	s.loseDatabase()
	last := ""
	for lines.Scan() {
		if event, is := strings.CutPrefix(lines.Text(), "event: "); is {
			last = event
		}
	}
	if last != "error" {
		t.Errorf("the last event is %s, want error", last)
	}
}

// Every word that can stand in an answer is described, and no other.
func TestDescriptionOfWords(t *testing.T) {
	t.Parallel()
	null := []string{"null"}
	for _, c := range []struct {
		path    []string
		folder  string
		typed   string
		without []string // what requests or answers of the endpoint never hold
		with    []string
	}{
		{[]string{"ErrorClass"}, "provider", "Class", nil, nil},
		{[]string{"RejectionCode"}, "fault", "Kind", nil, nil},
		{[]string{"Run", "properties", "status"}, "run", "Status", []string{"cancelled", "interrupted"}, nil},
		{[]string{"Result", "properties", "status"}, "run", "AttemptStatus", []string{"cancelled", "interrupted"}, nil},
		{[]string{"Result", "properties", "costSource"}, "run", "CostSource", nil, null},
		{[]string{"Result", "properties", "keySource"}, "key", "Source", nil, null},
		{[]string{"Message", "properties", "role"}, "provider", "Role", nil, nil},
		{[]string{"Key", "properties", "status"}, "key", "Status", nil, nil},
	} {
		enum, _ := described().at(slices.Concat([]string{"components", "schemas"}, c.path, []string{"enum"})...)
		var got []string
		for _, word := range enum.([]any) {
			if word == nil {
				word = "null"
			}
			got = append(got, word.(string))
		}
		want := slices.DeleteFunc(constants(t, c.folder, c.typed), func(word string) bool { return slices.Contains(c.without, word) })
		want = append(want, c.with...)
		slices.Sort(got)
		slices.Sort(want)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%v (-code +description):\n%s", c.path, diff)
		}
	}
	table, _ := described().at("components", "schemas", "ErrorClass", "description")
	for _, class := range constants(t, "provider", "Class") {
		if !strings.Contains(table.(string), "| `"+class+"` |") {
			t.Errorf("ErrorClass does not say what %s means", class)
		}
	}
}

// constants returns the string constants of a type of ours.
func constants(t *testing.T, folder, typed string) []string {
	t.Helper()
	files, err := filepath.Glob("../internal/" + folder + "/*.go")
	must(t, err)
	var values []string
	for _, name := range files {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		must(t, err)
		ast.Inspect(file, func(node ast.Node) bool {
			spec, is := node.(*ast.ValueSpec)
			if !is || len(spec.Values) != 1 {
				return true
			}
			kind, isNamed := spec.Type.(*ast.Ident)
			literal, isLiteral := spec.Values[0].(*ast.BasicLit)
			if isNamed && isLiteral && kind.Name == typed {
				value, err := strconv.Unquote(literal.Value)
				must(t, err)
				values = append(values, value)
			}
			return true
		})
	}
	if len(values) == 0 {
		t.Fatalf("internal/%s has no constants of type %s", folder, typed)
	}
	return values
}

// Every status that the endpoint can answer is described, with the code that
// comes with it.
func TestDescriptionOfStatuses(t *testing.T) {
	t.Parallel()
	want := []string{"200"}
	for kind, status := range handlers.StatusOf {
		if kind == fault.NotFound { // at other addresses
			continue
		}
		want = append(want, strconv.Itoa(status))
		code, _ := described().at(ofRun("responses", strconv.Itoa(status), "content", "application/json", "example", "error", "code")...)
		if code != string(kind) {
			t.Errorf("the example of %d has the code %v, want %s", status, code, kind)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, described().names(ofRun("responses")...)); diff != "" {
		t.Errorf("statuses (-code +description):\n%s", diff)
	}
	for _, status := range []string{"409", "429", "503"} {
		if required, _ := described().at(ofRun("responses", status, "headers", "Retry-After", "required")...); required != true {
			t.Errorf("%s does not promise Retry-After", status)
		}
	}
}
