package views

import "strconv"

// ErrorPage says that something did not work, and what to do about it.
type ErrorPage struct {
	Page
	Status    int    // HTTP status
	Heading   string // "This took too long"
	Message   string // one sentence for a person
	Next      string // what to do now; "" when Message says it
	RetryHref string // address to try again; "" when trying again is no use
	RequestID string // to find the request in the log; "" when there is none
}

func (p ErrorPage) status() string { return strconv.Itoa(p.Status) }

// NotFoundPage is the ErrorPage for an address behind which there is nothing.
func NotFoundPage(page Page, requestID string) ErrorPage {
	page.Title = "Not found"
	return ErrorPage{
		Page: page, Status: 404,
		Heading:   "There is no such page",
		Message:   "The address may be mistyped, or what was here has been deleted.",
		RequestID: requestID,
	}
}
