package price

// InBatchesOf makes r change no more attempts at a time.
func (r *Recomputer) InBatchesOf(n int) { r.batch = n }
