package usage

import "github.com/promptcademy/promptops/internal/postgres"

// At returns a Store that remembers what this one does and reads from another
// place: at the moment of a transaction, say.
func (s *Store) At(db postgres.DB) *Store {
	return &Store{postgres.NewReader(db), postgres.NewReader(db), s.memory, s.sums}
}

// Remembered is how many statements' answers the Store remembers.
func (s *Store) Remembered() int {
	return s.memory.Len()
}
