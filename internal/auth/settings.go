package auth

import (
	"errors"
	"fmt"

	"github.com/quoitdb/quoit/internal/config"
)

// MinClusterSecret is how many bytes a cluster's secret has at least.
const MinClusterSecret = 32

// Config is the settings of a node and of a manager about who may do what.
type Config struct {
	ClusterSecret config.Secret `env:"QUOIT_CLUSTER_SECRET" help:"what nodes and manager prove to each other; at least 32 bytes, the same for all; several, one a line, are all taken, and the first is shown" want:"at least 32 bytes, as openssl rand -base64 32 makes them"`
	TokenKeysFile string        `env:"QUOIT_TOKEN_KEYS_FILE" help:"JSON Web Key Set that tokens are verified with; looked at again when it changes" want:"a file as quoit token key or quoit token public makes it"`
}

// On says whether authentication is on. Check has passed.
func (c *Config) On() bool { return c.TokenKeysFile != "" }

// LoadKeys loads the keys that tokens are verified with, nil if authentication is off.
func (c *Config) LoadKeys() (*Keys, error) {
	if !c.On() {
		return nil, nil //nolint:nilnil // a Guard without keys asks nobody
	}
	keys, err := LoadKeys(c.TokenKeysFile)
	if err != nil {
		return nil, fmt.Errorf("QUOIT_TOKEN_KEYS_FILE: %w", err)
	}
	return keys, nil
}

// Check refuses half a configuration: tokens without a proof for members, or the other way
// round, and a secret that could be guessed. memberCA says that members prove themselves
// with certificates.
func (c *Config) Check(memberCA bool) error {
	secret := c.ClusterSecret.IsSet()
	errs := []error{c.wrongSecret()}
	if c.On() && !secret && !memberCA {
		errs = append(errs, errors.New("QUOIT_TOKEN_KEYS_FILE is set and QUOIT_CLUSTER_SECRET is not: members could not prove themselves; set QUOIT_CLUSTER_SECRET_FILE to a file with 32 random bytes or more (openssl rand -base64 32), or QUOIT_TLS_MEMBER_CA_FILE"))
	}
	if !c.On() && (secret || memberCA) {
		errs = append(errs, fmt.Errorf("%s is set and QUOIT_TOKEN_KEYS_FILE is not: clients could not prove themselves; set it to a file as quoit token public makes it", c.proof(memberCA)))
	}
	return errors.Join(errs...)
}

// proof is the variable that members prove themselves with.
func (c *Config) proof(memberCA bool) string {
	if memberCA && !c.ClusterSecret.IsSet() {
		return "QUOIT_TLS_MEMBER_CA_FILE"
	}
	return "QUOIT_CLUSTER_SECRET"
}
