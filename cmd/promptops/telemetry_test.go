package main

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestServeMetricsAndOTLP(t *testing.T) {
	var mu sync.Mutex
	sent := map[string]string{} // by path
	collector := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Header.Get("Authorization") != "Bearer collector-secret" {
			t.Errorf("%s: %v, Authorization %q", r.URL.Path, err, r.Header.Get("Authorization"))
		}
		mu.Lock()
		defer mu.Unlock()
		sent[r.URL.Path] += string(body)
	}))
	defer collector.Close()

	env := onDatabase(t)
	promptops(t, env, "", "demo", "load").exits(t, 0)
	token := strings.TrimSpace(promptops(t, env, "", "token", "--learner", "ada@demo.promptcademy.test").exits(t, 0).stdout)
	env["PROMPTOPS_METRICS_LISTEN"], env["PROMPTOPS_METRICS_TOKEN"] = freeAddress(t), "a-token-of-the-tests"
	env["OTEL_EXPORTER_OTLP_ENDPOINT"], env["OTEL_EXPORTER_OTLP_HEADERS"] = collector.URL, "authorization=Bearer%20collector-secret"
	promptops(t, env, "", "config").exits(t, 0).hides(t, "a-token-of-the-tests", "collector-secret")
	s := serveWith(t, env).ready()
	s.run(token)

	own := "http://" + env["PROMPTOPS_METRICS_LISTEN"]
	for _, line := range []string{
		`promptcademy_http_requests_total{method="POST",route="/api/ai/run",status="2xx"} 1`, `promptcademy_build_info{version="dev"} 1`, `promptcademy_ai_runs_total{status="success"} 1`,
		`promptcademy_db_pool_max_connections{pool="pages"} 16`, `promptcademy_db_pool_max_connections{pool="runs"} 6`, "promptcademy_ai_unwritten_outcomes 0", "go_memstats_mallocs_total", "process_open_fds",
	} {
		s.eventually(line+" among the metrics", func() bool { // an answer is counted a moment after it was read
			metrics, status := fetch(t, own+"/metrics", "")
			return status == http.StatusOK && strings.Contains(metrics, line)
		})
	}
	for url, want := range map[string]int{own + "/": 404, own + "/usage": 404, s.URL + "/metrics": 401} {
		if _, status := fetch(t, url, ""); status != want {
			t.Errorf("%s answers %d, want %d", url, status, want)
		}
	}
	if text, status := fetch(t, s.URL+"/metrics", "Bearer a-token-of-the-tests"); status != http.StatusOK || !strings.Contains(text, "promptcademy_build_info") {
		t.Errorf("/metrics with the token: %d", status)
	}

	s.end(syscall.SIGTERM, 0)
	mu.Lock()
	defer mu.Unlock()
	for _, event := range []string{"ai_run_start", "ai_run_success"} {
		if !strings.Contains(sent["/v1/logs"], event) {
			t.Errorf("%s was not sent", event)
		}
	}
	if !strings.Contains(sent["/v1/traces"], "POST /api/ai/run") {
		t.Error("no trace was sent")
	}
	for path, body := range sent {
		for _, secret := range []string{"Explain RAG", "sandbox-openai", token, "server_started"} {
			if strings.Contains(body, secret) {
				t.Errorf("%q was sent to %s", secret, path)
			}
		}
	}
	hides(t, s, "a-token-of-the-tests", "collector-secret")
}

func fetch(t *testing.T, url, authorization string) (text string, status int) {
	t.Helper()
	request, err := http.NewRequest(http.MethodGet, url, nil)
	must(t, err)
	request.Header.Set("Authorization", authorization)
	response, err := http.DefaultClient.Do(request)
	must(t, err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	must(t, err)
	return string(body), response.StatusCode
}

// Neither runs nor the end wait for a collector that does not answer.
func TestServeWithACollectorThatHangs(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer silent.Close()
	env := onDatabase(t)
	promptops(t, env, "", "demo", "load").exits(t, 0)
	token := strings.TrimSpace(promptops(t, env, "", "token", "--learner", "ada@demo.promptcademy.test").exits(t, 0).stdout)
	env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://" + silent.Addr().String()
	s := serveWith(t, env).ready()
	s.run(token)
	s.end(syscall.SIGTERM, 0)
	if got := strings.Count(s.stdout.String(), `"event":"otlp_export_failed"`); got != 1 {
		t.Errorf("warned %d times", got)
	}
}

func TestServeOnATakenMetricsPort(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	env := onDatabase(t)
	env["PROMPTOPS_METRICS_LISTEN"] = listener.Addr().String()
	env["PROMPTOPS_LISTEN"] = "127.0.0.1:0"
	promptops(t, env, "", "serve").exits(t, 1, "cannot listen on "+listener.Addr().String(), "PROMPTOPS_METRICS_LISTEN")
}
