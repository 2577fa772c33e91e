package run

import (
	"fmt"
	"regexp"

	"github.com/jackc/pgx/v5"
)

// namedSQL is a statement whose parameters have names, @likeThis. The driver can do
// that too, but would read the statement anew every time.
type namedSQL struct {
	text  string   // with $1, $2 …
	names []string // of these
}

var parameter = regexp.MustCompile(`@\w+`)

// named reads a statement of ours, in which nothing else has an @.
func named(text string) *namedSQL {
	n := &namedSQL{}
	places := map[string]int{}
	n.text = parameter.ReplaceAllStringFunc(text, func(name string) string {
		if places[name] == 0 {
			n.names = append(n.names, name[1:])
			places[name] = len(n.names)
		}
		return fmt.Sprintf("$%d", places[name])
	})
	return n
}

// queue adds the statement to a batch, with values for all of its parameters.
func (n *namedSQL) queue(batch *pgx.Batch, values map[string]any) *pgx.QueuedQuery {
	args := make([]any, len(n.names))
	for i, name := range n.names {
		value, ok := values[name]
		if !ok {
			panic("no value for @" + name)
		}
		args[i] = value
	}
	return batch.Queue(n.text, args...)
}
