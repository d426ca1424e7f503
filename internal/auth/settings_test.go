package auth

import (
	"fmt"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/internal/config"
)

func TestHalfAConfigurationIsRefusedAndNamesTheOtherHalf(t *testing.T) {
	secret := config.NewSecret(strings.Repeat("s", MinClusterSecret))
	for name, c := range map[string]struct {
		config   Config
		memberCA bool
		on       bool
		want     string
	}{
		"nothing":                    {Config{}, false, false, ""},
		"both":                       {Config{secret, "keys.json"}, false, true, ""},
		"certificates":               {Config{TokenKeysFile: "keys.json"}, true, true, ""},
		"all three":                  {Config{secret, "keys.json"}, true, true, ""},
		"tokens only":                {Config{TokenKeysFile: "keys.json"}, false, true, "QUOIT_CLUSTER_SECRET is not"},
		"secret only":                {Config{ClusterSecret: secret}, false, false, "QUOIT_CLUSTER_SECRET is set and QUOIT_TOKEN_KEYS_FILE is not"},
		"certificates only":          {Config{}, true, false, "QUOIT_TLS_MEMBER_CA_FILE is set and QUOIT_TOKEN_KEYS_FILE is not"},
		"a secret to guess":          {Config{config.NewSecret("hunter2"), "keys.json"}, false, true, `QUOIT_CLUSTER_SECRET="(secret)": want at least 32 bytes`},
		"a secret, and one to guess": {Config{config.NewSecret(strings.Repeat("s", MinClusterSecret) + "\nhunter2"), "keys.json"}, false, true, `QUOIT_CLUSTER_SECRET="(secret)": want at least 32 bytes`},
		"two secrets":                {Config{config.NewSecret(strings.Repeat("s", MinClusterSecret) + "\n" + strings.Repeat("t", MinClusterSecret)), "keys.json"}, false, true, ""},
		"too many secrets":           {Config{config.NewSecret(strings.Repeat(strings.Repeat("s", MinClusterSecret)+"\n", 5)), "keys.json"}, false, true, "at most 4"},
		"nothing but lines":          {Config{config.NewSecret("\n\n"), "keys.json"}, false, true, "at least 32 bytes"},
		"a secret with a gap":        {Config{config.NewSecret(strings.Repeat("s", MinClusterSecret-1)), "keys.json"}, false, true, "at least 32 bytes"},
	} {
		err := c.config.Check(c.memberCA)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v does not say %s", name, err, c.want)
		}
		if c.config.On() != c.on {
			t.Errorf("%s: on is %v", name, !c.on)
		}
		if strings.Contains(fmt.Sprint(err), "hunter2") {
			t.Errorf("%s: the error shows the secret", name)
		}
	}
}

func TestTheSettingsComeFromTheEnvironment(t *testing.T) {
	var c Config
	if err := config.Load(&c, map[string]string{"QUOIT_CLUSTER_SECRET": strings.Repeat("s", 32), "QUOIT_TOKEN_KEYS_FILE": "keys.json"}); err != nil {
		t.Fatal(err)
	}
	if !c.On() || c.Check(false) != nil {
		t.Errorf("on %v, %v", c.On(), c.Check(false))
	}
}
