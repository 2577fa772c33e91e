// Package faults breaks things on purpose: nodes and the database are killed,
// stopped and started again while runs go on and providers fail, and then every
// run, token, dollar and idempotency key is accounted for, against what the
// clients were told and what the sandbox would have billed.
//
// It holds tests only. They start the program as it is shipped, several times, on
// a Postgres of their own. make test takes the short form, make test-faults the
// long one.
package faults
