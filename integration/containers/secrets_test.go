package containers

import (
	"context"
	"crypto/x509"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// Files of the folder that quoit secrets create makes.
const (
	clusterSecret   = "cluster-secret"
	tokenKeys       = "token-keys.json"
	bucketAccessKey = "bucket-access-key"
	bucketSecretKey = "bucket-secret-key"
	authority       = "tls/ca.pem"
)

// inContainers is where Compose mounts secrets, and so do we.
const inContainers = "/run/secrets"

// secrets are what one cluster's servers and clients prove themselves with.
type secrets struct {
	folder    string
	operator  string         // the token
	authority *x509.CertPool // nil where nobody speaks TLS
}

// newSecrets makes them as a user does, with certificates for the servers that are named.
func newSecrets(t *testing.T, withTLS ...string) *secrets {
	t.Helper()
	s := &secrets{folder: filepath.Join(t.TempDir(), "secrets")}
	args := []string{"create", s.folder, "--bucket-keys", "--mounted"}
	for _, name := range withTLS {
		args = append(args, "--tls", name+"="+name)
	}
	quoitHere(t, append([]string{"secrets"}, args...)...)
	s.operator = strings.TrimSpace(s.read(t, "operator-token"))
	if len(withTLS) > 0 {
		s.authority = x509.NewCertPool()
		if !s.authority.AppendCertsFromPEM([]byte(s.read(t, authority))) {
			t.Fatal("the authority has no certificate")
		}
	}
	return s
}

// quoitHere runs the program outside of containers.
func quoitHere(t *testing.T, args ...string) string {
	t.Helper()
	binary, err := theBinary()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("quoit %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (s *secrets) read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// inStoreOf has the keys of another cluster's store: an operator has put them there.
func (s *secrets) inStoreOf(t *testing.T, other *secrets) *secrets {
	t.Helper()
	for _, name := range []string{bucketAccessKey, bucketSecretKey} {
		if err := os.WriteFile(filepath.Join(s.folder, name), []byte(other.read(t, name)), 0o600); err != nil { // it keeps its mode
			t.Fatal(err)
		}
	}
	return s
}

// token is for the Go client.
func (s *secrets) token(context.Context) (string, error) { return s.operator, nil }

// member are the variables of a member's secrets, and their files.
func (s *secrets) member(name string) map[string]string {
	files := map[string]string{
		"QUOIT_CLUSTER_SECRET_FILE": clusterSecret, "QUOIT_TOKEN_KEYS_FILE": tokenKeys,
		"QUOIT_S3_ACCESS_KEY_FILE": bucketAccessKey, "QUOIT_S3_SECRET_KEY_FILE": bucketSecretKey,
	}
	if s.authority != nil {
		files["QUOIT_TLS_CERT_FILE"], files["QUOIT_TLS_KEY_FILE"] = "tls/"+name+".pem", "tls/"+name+".key"
		files["QUOIT_TLS_CA_FILE"], files["QUOIT_TLS_MEMBER_CA_FILE"] = authority, authority
	}
	return files
}

// mount has the variables name files in a container, each mounted there, read-only.
func (s *secrets) mount(files map[string]string) (env map[string]string, binds []string) {
	env = make(map[string]string)
	mounted := make(map[string]bool)
	for variable, file := range files {
		env[variable] = path.Join(inContainers, file)
		if !mounted[file] {
			mounted[file] = true
			binds = append(binds, filepath.Join(s.folder, file)+":"+env[variable]+":ro")
		}
	}
	return env, binds
}
