package usage

import "github.com/promptcademy/promptops/internal/postgres"

// With returns a Store that remembers what this one does and reads with another
// reader: at the moment of a transaction, say.
func (s *Store) With(reader postgres.Reader) *Store {
	return &Store{reader, postgres.NewReader(reader.DB()), s.memory}
}
