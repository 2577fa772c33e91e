package demo

// EmptyingFrom returns a Store to which a month with so many attempts is large.
func (s *Store) EmptyingFrom(attempts int64) *Store {
	return &Store{s.db, s.ring, s.zone, attempts}
}
