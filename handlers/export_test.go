package handlers

// For the tests, which see the package from outside.
var (
	StatusOf        = statusOf
	OpenAPIDocument = openAPIDocument
)
