package views

import "github.com/a-h/templ"

// SignInPage asks for address and password.
type SignInPage struct {
	Page
	Email   string // what was typed before
	Next    string // where to go afterwards: a path of this site
	Problem string // why the last try failed; "" on the first
}

// SignInLinkPage asks to confirm a one-time link: programs that read mail open
// links, so that opening one must not use it up.
type SignInLinkPage struct {
	Page
	Action  string // where the button posts to: the address of this page
	Email   string // whom the link signs in; "" when it is not told
	Problem string // why the link does not work; then there is no button
}

// PasswordPage asks for a new password.
type PasswordPage struct {
	Page
	Email     string // whose password; for password managers
	MinLength string // fewest characters: "8"
	First     bool   // there is none yet: the operator came by a one-time link
	Problem   string // why the last try failed; "" on the first
}

// problemAttributes ties a field to the sentence that says what is wrong.
func problemAttributes(problem string) templ.Attributes {
	if problem == "" {
		return nil
	}
	return templ.Attributes{"aria-invalid": "true", "aria-describedby": "problem"}
}

// invalidAttributes is problemAttributes for a field that is described already.
func invalidAttributes(problem string) templ.Attributes {
	if problem == "" {
		return nil
	}
	return templ.Attributes{"aria-invalid": "true"}
}
