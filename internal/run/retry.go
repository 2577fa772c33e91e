package run

// Action is what follows a failed try.
type Action string

const (
	Done    Action = "done"     // the model answered
	Again   Action = "again"    // the same key, after a pause
	NextKey Action = "next_key" // another key, at once
	GiveUp  Action = "give_up"  // the failure is the attempt's result
)
