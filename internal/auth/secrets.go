package auth

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/quoitdb/quoit/internal/config"
)

// maxSecrets is how many of a cluster's secrets may be good at the same time: two during a
// rotation, and one that somebody has forgotten to take out.
const maxSecrets = 4

// secretsEvery is how often the file with them is looked at, at most.
const secretsEvery = time.Second

// parseSecrets reads the cluster's secrets, one a line. The first proves who this is, all
// of them are taken from others.
func parseSecrets(text string) ([]string, error) {
	var all []string
	for line := range strings.SplitSeq(text, "\n") {
		if line = strings.TrimSuffix(line, "\r"); line == "" {
			continue
		}
		if len(line) < MinClusterSecret {
			return nil, fmt.Errorf("a secret has at least %d bytes, as openssl rand -base64 32 makes them", MinClusterSecret)
		}
		all = append(all, line)
	}
	if len(all) == 0 || len(all) > maxSecrets {
		return nil, fmt.Errorf("there are 1 to %d secrets, one a line, and these are %d", maxSecrets, len(all))
	}
	return all, nil
}

// secrets are the cluster's, as they are now: their file is looked at again, so that they
// are replaced without a restart. A nil one has none.
type secrets struct {
	from config.Secret
	log  *slog.Logger
	now  func() time.Time

	mu     sync.Mutex
	list   []string  // guarded by mu; never changed, only replaced
	looked time.Time // guarded by mu
	told   string    // the error that the log has been told; guarded by mu
}

// newSecrets is nil where no secret is set. That has been checked to be good.
func newSecrets(from config.Secret, log *slog.Logger, now func() time.Time) *secrets {
	if !from.IsSet() {
		return nil
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if now == nil {
		now = time.Now
	}
	list, _ := parseSecrets(from.Reveal())
	return &secrets{from: from, log: log, now: now, list: list, looked: now()}
}

// current is what counts now, nothing where none is set.
func (s *secrets) current() []string {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now := s.now(); now.Sub(s.looked) >= secretsEvery {
		s.looked = now
		s.look()
	}
	return s.list
}

// first is the one that proves who this is, "" where none is set.
func (s *secrets) first() string {
	if list := s.current(); len(list) > 0 {
		return list[0]
	}
	return ""
}

// look takes what the file says now, if it can be used. The caller holds mu.
func (s *secrets) look() {
	text, err := s.from.Latest()
	if err == nil {
		var list []string
		if list, err = parseSecrets(text); err == nil && strings.Join(list, "\n") != strings.Join(s.list, "\n") {
			s.list = list
			s.log.Info("the cluster's secrets are others now (QUOIT_CLUSTER_SECRET_FILE)", "secrets", len(list))
		}
	}
	if err == nil {
		s.told = ""
		return
	}
	if err.Error() != s.told {
		s.told = err.Error()
		s.log.Error("the cluster's secrets cannot be read; the ones from before stay in force (QUOIT_CLUSTER_SECRET_FILE)", "err", err)
	}
}

// wrongSecret is what is wrong with the setting, nil where it is good or not set.
func (c *Config) wrongSecret() error {
	if !c.ClusterSecret.IsSet() {
		return nil
	}
	_, err := parseSecrets(c.ClusterSecret.Reveal())
	if err == nil {
		return nil
	}
	return config.Wrong(c, "ClusterSecret", "at least 32 bytes, as openssl rand -base64 32 makes them; in a rotation one a line, at most 4")
}
