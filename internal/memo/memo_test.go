package memo

import (
	"strings"
	"testing"
)

func TestMemory(t *testing.T) {
	m := New(10*(ofKey+100), func(s string) int { return len(s) })
	text := strings.Repeat("x", 100)
	for i := range byte(10) {
		m.Put(Key{i}, text)
	}
	if _, known := m.Get(Key{0}); !known {
		t.Error("there is room for ten, and the first is gone")
	}
	m.Put(Key{10}, text)
	for i, want := range []bool{true, false, true} { // the first has just been asked for
		if _, known := m.Get(Key{byte(i)}); known != want {
			t.Errorf("%d is known: %v", i, known)
		}
	}
	m.Put(Key{11}, strings.Repeat("x", 10*(ofKey+100)/6))
	if _, known := m.Get(Key{11}); known {
		t.Error("one that takes a sixth of the room is kept")
	}
	for range 100 {
		m.Put(Key{12}, "shorter")
	}
	if answer, known := m.Get(Key{12}); !known || answer != "shorter" {
		t.Errorf("what was put last is %q", answer)
	}
	if left := m.Len(); left < 10 {
		t.Errorf("putting one thing again took the place of others: %d are left", left)
	}
}
