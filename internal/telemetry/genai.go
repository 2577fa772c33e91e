package telemetry

// Names by OpenTelemetry's conventions for generative AI, which are still in
// development: when they change, this file does
// (github.com/open-telemetry/semantic-conventions-genai, May 2026).
const (
	metricTokenUsage        = "gen_ai.client.token.usage"
	metricOperationDuration = "gen_ai.client.operation.duration"
	metricFirstChunk        = "gen_ai.client.operation.time_to_first_chunk"

	attrOperation   = "gen_ai.operation.name"
	attrProvider    = "gen_ai.provider.name"
	attrModel       = "gen_ai.request.model"
	attrTemperature = "gen_ai.request.temperature"
	attrMaxTokens   = "gen_ai.request.max_tokens"
	attrTopP        = "gen_ai.request.top_p"
	attrStream      = "gen_ai.request.stream"
	attrResponseID  = "gen_ai.response.id"
	attrFinish      = "gen_ai.response.finish_reasons"
	attrFirstChunk  = "gen_ai.response.time_to_first_chunk" // seconds
	attrTokenType   = "gen_ai.token.type"
	attrInput       = "gen_ai.usage.input_tokens" // includes cached ones
	attrOutput      = "gen_ai.usage.output_tokens"
	attrCacheRead   = "gen_ai.usage.cache_read.input_tokens"
	attrCacheWrite  = "gen_ai.usage.cache_creation.input_tokens"
	attrReasoning   = "gen_ai.usage.reasoning.output_tokens"

	tokenInput  = "input"
	tokenOutput = "output"

	// Of the general conventions.
	attrErrorType       = "error.type"
	attrMethod          = "http.request.method"
	attrRoute           = "http.route"
	attrStatusCode      = "http.response.status_code"
	attrService         = "service.name"
	attrServiceVersion  = "service.version"
	attrServiceInstance = "service.instance.id"

	// Our own.
	attrRequestID   = "promptcademy.request.id"
	attrRunStatus   = "promptcademy.run.status"
	attrRunModels   = "promptcademy.run.models"
	attrRunTokens   = "promptcademy.run.total_tokens"
	attrRunCost     = "promptcademy.run.cost_usd"
	attrRunUnpriced = "promptcademy.run.unpriced"
	attrKeySource   = "promptcademy.key_source"
	attrTry         = "promptcademy.try" // 1 is the first
	attrAction      = "promptcademy.try.action"
)

// Buckets that the conventions recommend.
var (
	tokenBuckets    = []float64{1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864}
	durationBuckets = []float64{0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92}
)

// providerNames are the providers that the conventions call otherwise than we
// do.
var providerNames = map[string]string{
	"google":  "gcp.gemini",
	"mistral": "mistral_ai",
	"xai":     "x_ai",
}

func conventionalProvider(id string) string {
	if name, ok := providerNames[id]; ok {
		return name
	}
	return id
}

// operationOf is what a call to a provider is called: Gemini's API has a word of
// its own.
func operationOf(providerID string) string {
	if providerID == "google" {
		return "generate_content"
	}
	return "chat"
}
