package handlers

// For the tests, which see the package from outside.
var (
	StatusOf        = statusOf
	OpenAPIDocument = openAPIDocument
)

// RunsNow is how many runs pages give way to.
func (s *Server) RunsNow() int64 { return s.courtesy.runs.Load() }
