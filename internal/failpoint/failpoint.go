// Package failpoint names the places where a test, or a person with an
// environment variable, can make a fault happen: kill the process there, freeze
// it, fail the call, or make it wait.
//
// A Set is handed to whoever has such places; nothing is global, so that ten
// nodes in one process fail one at a time. The nil Set is the production value:
// Hit on it is a nil check. A Set may be used by any number of goroutines, and
// points may be armed and disarmed while others hit them.
//
//	points, err := failpoint.Parse("move.sealed=kill,wal.sync=sleep:50ms@3")
//	...
//	if err := points.Hit("move.sealed"); err != nil { return err }
package failpoint

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Variable is the environment variable that servers read their points from.
const Variable = "QUOIT_FAILPOINT"

// ErrInjected is what a point armed with "error" returns.
var ErrInjected = errors.New("failpoint: injected error")

// Set is a table of armed points. Make one with New or Parse.
type Set struct {
	armed atomic.Int32 // len(points): keeps an unarmed Set as cheap as a nil one

	mu     sync.Mutex
	points map[string]*point // guarded by mu
	fired  func(name string) // guarded by mu
}

type point struct {
	hits int  // how often it was reached; guarded by Set.mu
	at   int  // acts on this hit only; 0 acts on all
	told bool // guarded by Set.mu
	act  func() error
}

// New returns a Set with no point armed.
func New() *Set { return &Set{points: make(map[string]*point)} }

// Parse reads "name=action[@n],...". Actions are kill, pause (both of this
// process), error and sleep:<duration>; with @n only the n-th hit acts. An empty
// text gives nil, the Set that never does anything.
func Parse(text string) (*Set, error) {
	if text == "" {
		return nil, nil
	}
	s := New()
	for _, part := range strings.Split(text, ",") {
		name, action, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("fail point %q: want name=action", part)
		}
		act, at, err := parseAction(action)
		if err != nil {
			return nil, fmt.Errorf("fail point %q: %w", part, err)
		}
		s.arm(name, at, act)
	}
	return s, nil
}

func parseAction(text string) (act func() error, at int, err error) {
	action, nth, counted := strings.Cut(text, "@")
	if counted {
		if at, err = strconv.Atoi(nth); err != nil || at < 1 {
			return nil, 0, fmt.Errorf("@%s: want a number from 1", nth)
		}
	}
	verb, arg, _ := strings.Cut(action, ":")
	switch verb {
	case "kill":
		return killSelf, at, nil
	case "pause":
		return pauseSelf, at, nil
	case "error":
		return func() error { return ErrInjected }, at, nil
	case "sleep":
		d, err := time.ParseDuration(arg)
		if err != nil || d < 0 {
			return nil, 0, fmt.Errorf("sleep:%s: want a duration such as sleep:50ms", arg)
		}
		return func() error { time.Sleep(d); return nil }, at, nil
	}
	return nil, 0, fmt.Errorf("action %q: want kill, pause, error or sleep:<duration>, and @n for the n-th hit only", action)
}

// On arms a point with a function of the test's own, called on every hit in the
// goroutine that hits it. It replaces what was armed under that name.
func (s *Set) On(name string, act func() error) { s.arm(name, 0, act) }

// OnHit arms a point for its n-th hit only, counted from 1.
func (s *Set) OnHit(name string, n int, act func() error) { s.arm(name, n, act) }

// Off disarms a point; unknown names are ignored.
func (s *Set) Off(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.points, name)
	s.armed.Store(int32(len(s.points)))
}

func (s *Set) arm(name string, at int, act func() error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.points[name] = &point{at: at, act: act}
	s.armed.Store(int32(len(s.points)))
}

// Fired has f told of each point when it acts for the first time, before it does: when
// a process has been killed it can tell nothing any more.
func (s *Set) Fired(f func(name string)) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fired = f
}

// Hit says that the named place was reached, and does what is armed there. The
// error is the injected one; the caller treats it as its own operation failing.
func (s *Set) Hit(name string) error {
	if s == nil || s.armed.Load() == 0 {
		return nil
	}
	if act := s.reach(name); act != nil {
		return act()
	}
	return nil
}

// reach counts the hit and returns what to do, so that no lock is held meanwhile.
func (s *Set) reach(name string) func() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.points[name]
	if p == nil {
		return nil
	}
	p.hits++
	if p.at != 0 && p.hits != p.at {
		return nil
	}
	if s.fired != nil && !p.told {
		p.told = true
		s.fired(name)
	}
	return p.act
}

// Hits returns how often an armed point was reached since it was armed.
func (s *Set) Hits(name string) int {
	if s == nil {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.points[name]; p != nil {
		return p.hits
	}
	return 0
}
