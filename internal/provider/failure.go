package provider

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Class says why an attempt failed, in one taxonomy for all providers
// (PRODUCT.md §3, error.class).
type Class string

const (
	ClassMissingKey     Class = "missing_key"
	ClassInvalidKey     Class = "invalid_key"
	ClassPermission     Class = "permission"
	ClassBilling        Class = "billing"
	ClassRateLimited    Class = "rate_limited"
	ClassOverloaded     Class = "overloaded"
	ClassContextLength  Class = "context_length"
	ClassContentFilter  Class = "content_filter"
	ClassBadRequest     Class = "bad_request"
	ClassNotFound       Class = "not_found"
	ClassTimeout        Class = "timeout"
	ClassNetwork        Class = "network"
	ClassProviderError  Class = "provider_error"
	ClassBudgetExceeded Class = "budget_exceeded"
	ClassCancelled      Class = "cancelled"
	ClassInterrupted    Class = "interrupted"
)

// Failure is why a call failed. Message is scrubbed of key fragments and fit to
// be shown to the learner: one line of at most 300 characters, never HTML.
type Failure struct {
	Class      Class
	Message    string
	HTTPStatus int           // the provider's, also when it came inside an answer of status 200; 0 when there was none
	RetryAfter time.Duration // 0: the provider did not say
	RequestID  string        // the provider's id of the call
}

func (f *Failure) Error() string {
	return fmt.Sprintf("%s (HTTP %d): %s", f.Class, f.HTTPStatus, f.Message)
}

// dailyWait is how long a key rests when a quota of the day is used up. The
// provider's own hint is seconds, and following it would only loop.
const dailyWait = time.Hour

// maxRetryAfter is the longest wait that is believed.
const maxRetryAfter = 24 * time.Hour

// classesByWord are the codes, types and reasons that providers use, whatever
// the HTTP status they come with. The first row that matches counts, so what
// forbids a retry stands before what invites one.
var classesByWord = []struct {
	class Class
	words []string
}{
	{ClassRateLimited, []string{"in_flight_budget_exhausted"}}, // OpenRouter says it with HTTP 402
	{ClassBilling, []string{
		"insufficient_quota", "credit_balance_exhausted", "organization_spend_limit_exceeded",
		"project_spend_limit_exceeded", "organization_usage_limit_exceeded", "billing_hard_limit_reached",
		"billing_not_active", "billing_error", "billing_disabled", "enforced_spend_limit_reached",
		"payment_required", "insufficient_balance", "openrouter_credits", "openrouter_key_limit",
	}},
	{ClassContextLength, []string{"context_length_exceeded", "string_above_max_length", "request_too_large"}},
	{ClassContentFilter, []string{
		"content_filter", "content_policy_violation", "responsibleaipolicyviolation", "invalid_prompt",
		"bio_policy", "flagged_input",
	}},
	{ClassNotFound, []string{"model_not_found", "model_decommissioned", "deploymentnotfound", "invalid_model"}},
	{ClassPermission, []string{
		"ip_not_authorized", "unsupported_country_region_territory", "insufficient_permissions",
		"invalid_organization", "mismatched_organization", "mismatched_project", "service_disabled",
		"api_key_service_blocked", "api_key_http_referrer_blocked", "api_key_ip_address_blocked",
	}},
	{ClassInvalidKey, []string{
		"invalid_api_key", "api_key_invalid", "api_key_expired", "access_token_type_unsupported",
		"unauthenticated:no-credentials", "unauthenticated:bad-credentials",
	}},
	{ClassOverloaded, []string{
		"overloaded_error", "server_is_overloaded", "service_unavailable_error", "engine_overloaded",
		"capacity_exceeded", "service_tier_capacity_exceeded",
	}},
	{ClassRateLimited, []string{"rate_limit_exceeded", "slow_down", "rate_limit_error", "too_many_requests"}},
	{ClassTimeout, []string{"timeout_error", "deadline_exceeded"}},
}

// classesByPhrase are for errors whose code says less than their message:
// Gemini's and xAI's bad key is an "invalid argument", Anthropic's empty purse
// an "invalid request". Not used with 5xx.
var classesByPhrase = []struct {
	class   Class
	phrases []string
}{
	{ClassBilling, []string{
		"credit balance is too low", "insufficient balance", "insufficient credits", "more credits",
		"api usage limits", "used all available credits", "spending limit", "spend limit", "key limit exceeded",
	}},
	{ClassContextLength, []string{
		"maximum context length", "context window", "context limit", "context length", "prompt is too long",
		"maximum prompt length", "exceeds the maximum number of tokens",
	}},
	{ClassPermission, []string{"insufficient permissions", "missing scopes", "not authorized to access this"}},
	{ClassInvalidKey, []string{
		"incorrect api key", "invalid api key", "api key not valid", "api key expired", "invalid x-api-key",
		"reported as leaked", "authentication fails",
	}},
	{ClassNotFound, []string{"not a valid model", "model not exist", "invalid model", "no endpoints found"}},
	{ClassContentFilter, []string{
		"content management policy", "content policy", "usage policies", "usage guidelines", "safety guidelines",
	}},
}

// classesByGeneralWord decide where there is no HTTP status to go by: an error
// inside an answer of status 200.
var classesByGeneralWord = map[string]Class{
	"authentication_error":  ClassInvalidKey,
	"unauthenticated":       ClassInvalidKey,
	"permission_error":      ClassPermission,
	"permission_denied":     ClassPermission,
	"resource_exhausted":    ClassRateLimited,
	"unavailable":           ClassOverloaded,
	"invalid_request_error": ClassBadRequest,
	"invalid_argument":      ClassBadRequest,
	"not_found_error":       ClassNotFound,
	"not_found":             ClassNotFound,
}

func classByStatus(status int) Class {
	switch status {
	case http.StatusUnauthorized:
		return ClassInvalidKey
	case http.StatusPaymentRequired:
		return ClassBilling
	case http.StatusForbidden:
		return ClassPermission
	case http.StatusNotFound:
		return ClassNotFound
	case http.StatusRequestEntityTooLarge:
		return ClassContextLength
	case http.StatusTooManyRequests:
		return ClassRateLimited
	case http.StatusServiceUnavailable, 529, 498: // 529: Anthropic; 498: Groq has no capacity
		return ClassOverloaded
	case http.StatusRequestTimeout, http.StatusGatewayTimeout, 522, 524: // 52x: Cloudflare
		return ClassTimeout
	case 499: // Gemini: the call was cancelled, and not by us
		return ClassProviderError
	}
	if status >= 400 && status < 500 {
		return ClassBadRequest
	}
	return ClassProviderError
}

// readFailure reads an error answer, or an error inside an answer of status
// 200. It makes something of every body: an error as object, string or array,
// "detail", "message", HTML, nothing at all.
func readFailure(name string, status int, header http.Header, body []byte, secret string, now time.Time) *Failure {
	var r report
	var tree any
	isJSON := json.Unmarshal(body, &tree) == nil
	if isJSON {
		r.read(tree)
	}
	f := &Failure{HTTPStatus: status, RequestID: cmp.Or(requestID(header, secret), cleanID(r.requestID, secret))}
	if status/100 == 2 && r.number >= 400 && r.number < 600 {
		f.HTTPStatus = r.number
	}
	f.Class = r.class(f.HTTPStatus)
	switch f.Class {
	case ClassRateLimited, ClassOverloaded, ClassTimeout, ClassProviderError:
		f.RetryAfter = min(max(cmp.Or(retryAfter(header, now), r.retryDelay), 0), maxRetryAfter)
		if r.perDay {
			f.RetryAfter = max(f.RetryAfter, dailyWait)
		}
	}
	message := r.message
	if !isJSON {
		message = plainMessage(body)
	}
	message = tidy(message[:min(len(message), 4<<10)])
	if message == "" {
		message = silence(name, status, body, isJSON)
	}
	f.Message = cut(Scrub(message, secret))
	return f
}

// silence is our own sentence where the provider has none.
func silence(name string, status int, body []byte, isJSON bool) string {
	what := "without an explanation"
	switch {
	case status/100 == 3:
		what = "with a redirect, which is not followed"
	case isHTML(body):
		what = "with a web page instead of an answer"
	case len(bytes.TrimSpace(body)) == 0:
		what = "with nothing at all"
	case status/100 == 2 && isJSON:
		what = "with something that is not a model's answer"
	case !isJSON:
		what = "with something that is not JSON"
	}
	return fmt.Sprintf("%s answered HTTP %d %s.", name, status, what)
}

func isHTML(body []byte) bool {
	return bytes.HasPrefix(bytes.TrimSpace(body), []byte("<"))
}

// plainMessage is a body that is not JSON, if a person can make sense of it.
func plainMessage(body []byte) string {
	body = bytes.TrimSpace(body)
	if len(body) > 500 || isHTML(body) || strings.IndexFunc(string(body), func(r rune) bool { return r == 0xfffd || r < ' ' && r != '\n' && r != '\r' && r != '\t' }) >= 0 {
		return ""
	}
	if len(body) > 0 && (body[0] == '{' || body[0] == '[') {
		return "" // JSON that broke off
	}
	return string(body)
}

// report is what an error body says.
type report struct {
	message    string
	words      []string // codes, types and reasons, in lower case
	number     int      // the status it names itself
	depth      int      // where number was found
	retryDelay time.Duration
	perDay     bool // a quota of the day is used up
	requestID  string
}

func (r *report) read(tree any) {
	r.message = messageOf(tree, 0)
	r.walk("", tree, 0)
}

// messageKeys are where a message may be, the most telling first.
var messageKeys = []string{"error", "errors", "message", "msg", "detail", "details", "error_description", "title", "choices"}

// messageOf finds the message of an error, however it is wrapped.
func messageOf(v any, depth int) string {
	if depth > 6 {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case []any:
		var all []string
		for _, item := range v[:min(len(v), 3)] {
			if m := messageOf(item, depth+1); m != "" {
				all = append(all, m)
			}
		}
		return strings.Join(all, "; ")
	case map[string]any:
		for _, key := range messageKeys {
			m := messageOf(v[key], depth+1)
			if m == "" {
				continue
			}
			if where := location(v["loc"]); where != "" {
				m = where + ": " + m
			}
			return m + upstreamMessage(v["metadata"])
		}
	}
	return ""
}

// location is where a validation error points to: ["body","messages"].
func location(v any) string {
	path, _ := v.([]any)
	steps := make([]string, 0, len(path))
	for _, step := range path {
		steps = append(steps, fmt.Sprint(step))
	}
	return strings.Join(steps, ".")
}

// upstreamMessage is what the provider behind OpenRouter said; OpenRouter's own
// message is then only "Provider returned error".
func upstreamMessage(metadata any) string {
	m, _ := metadata.(map[string]any)
	raw, _ := m["raw"].(string)
	if raw == "" {
		return ""
	}
	var tree any
	if json.Unmarshal([]byte(raw), &tree) == nil {
		raw = messageOf(tree, 3)
	}
	if name, _ := m["provider_name"].(string); name != "" {
		return " (" + name + ": " + raw + ")"
	}
	return " (" + raw + ")"
}

// walk collects what is scattered over the body.
func (r *report) walk(key string, v any, depth int) {
	if depth > 8 || key == "input" { // the input is our own, echoed
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			r.walk(strings.ToLower(k), v[k], depth+1)
		}
	case []any:
		for _, item := range v {
			r.walk(key, item, depth+1)
		}
	case float64:
		if key == "code" || key == "status" || key == "statuscode" {
			r.numbered(int(min(max(v, 0), 1000)), depth)
		}
	case string:
		r.note(key, v, depth)
	}
	if key == "flagged_input" { // OpenRouter's moderation
		r.words = append(r.words, key)
	}
}

func (r *report) note(key, value string, depth int) {
	switch key {
	case "code", "type", "status", "reason", "error_code", "limit_source":
		r.words = append(r.words, strings.ToLower(value))
		if n, err := strconv.Atoi(value); err == nil {
			r.numbered(n, depth)
		}
	case "quotaid":
		r.perDay = r.perDay || strings.Contains(value, "PerDay")
	case "retrydelay":
		if d, err := time.ParseDuration(value); err == nil {
			r.retryDelay = max(r.retryDelay, d)
		}
	case "request_id":
		r.requestID = value
	case "raw":
		var tree any
		if json.Unmarshal([]byte(value), &tree) == nil {
			r.walk("", tree, depth+1)
		}
	}
}

// numbered keeps the outermost status: inner ones are of providers behind it.
func (r *report) numbered(status, depth int) {
	if status >= 400 && status < 600 && (r.number == 0 || depth < r.depth) {
		r.number, r.depth = status, depth
	}
}

// class decides. status is the HTTP status, or the one the error names itself.
func (r *report) class(status int) Class {
	if status == http.StatusRequestEntityTooLarge { // Groq's code would say "rate limit", but waiting never helps
		return ClassContextLength
	}
	for _, row := range classesByWord {
		for _, word := range row.words {
			if slices.Contains(r.words, word) {
				return row.class
			}
		}
	}
	if status < 500 {
		message := strings.ToLower(r.message)
		for _, row := range classesByPhrase {
			for _, phrase := range row.phrases {
				if strings.Contains(message, phrase) {
					return row.class
				}
			}
		}
	}
	if status >= 300 {
		return classByStatus(status)
	}
	for _, word := range r.words {
		if class, ok := classesByGeneralWord[word]; ok {
			return class
		}
	}
	return ClassProviderError
}

// retryAfter reads the wait that headers ask for; 0 if they do not.
func retryAfter(header http.Header, now time.Time) time.Duration {
	if ms, err := strconv.ParseFloat(header.Get("Retry-After-Ms"), 64); err == nil && ms > 0 {
		return seconds(ms / 1000)
	}
	value := header.Get("Retry-After")
	if s, err := strconv.ParseFloat(value, 64); err == nil {
		return seconds(s)
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	for _, what := range []string{"Requests", "Tokens"} {
		if header.Get("X-Ratelimit-Remaining-"+what) == "0" {
			if d, err := time.ParseDuration(header.Get("X-Ratelimit-Reset-" + what)); err == nil {
				return max(d, 0)
			}
		}
	}
	// OpenRouter: milliseconds since 1970.
	if ms, err := strconv.ParseInt(header.Get("X-Ratelimit-Reset"), 10, 64); err == nil && ms > 1e12 {
		return max(time.UnixMilli(ms).Sub(now), 0)
	}
	return 0
}

func seconds(s float64) time.Duration {
	if !(s > 0) { // also not NaN
		return 0
	}
	return time.Duration(min(s, maxRetryAfter.Seconds()) * float64(time.Second))
}

var requestIDHeaders = []string{"X-Request-Id", "Request-Id", "X-Generation-Id", "Mistral-Correlation-Id", "Cf-Ray"}

// requestID is the provider's id of a call.
func requestID(header http.Header, secret string) string {
	for _, name := range requestIDHeaders {
		if values := header[name]; len(values) > 0 {
			return cleanID(values[0], secret)
		}
	}
	return ""
}

// cleanID keeps a provider's id only if it is one: short, printable, and not an
// echo of the key.
func cleanID(id, secret string) string {
	if len(id) > 128 || !sendable(id) {
		return ""
	}
	for i := 0; i+fragment <= len(id); i++ {
		if strings.Contains(secret, id[i:i+fragment]) {
			return ""
		}
	}
	return id
}
