package kubernetes

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
)

// operations is where it says how the Secret is made that no manifest has.
const operations = "../../docs/operations.md"

// documented is the Secret that the command in docs/operations.md makes: its name and
// its keys, which are the names of the files.
func documented(t *testing.T) (name string, keys []string) {
	t.Helper()
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	joined := strings.ReplaceAll(string(text), "\\\n", " ")
	m := regexp.MustCompile(`(?m)^kubectl create secret generic (\S+)((?: +--from-file=\S+)+) *$`).FindAllStringSubmatch(joined, -1)
	if len(m) != 1 {
		t.Fatalf("%s makes %d Secrets", operations, len(m))
	}
	for _, word := range strings.Fields(m[0][2]) {
		keys = append(keys, path.Base(strings.TrimPrefix(word, "--from-file=")))
	}
	return m[0][1], keys
}

func TestNoManifestLetsEverybodyIn(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", folder, len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"QUOIT_ALLOW_UNAUTHENTICATED", "kind: Secret\n", "stringData"} {
			if bytes.Contains(text, []byte(word)) {
				t.Errorf("%s has %s", file, word)
			}
		}
	}
}

// TestEveryServerHasItsSecrets: each variable that names a file with a secret names one
// of the documented Secret, which is mounted read-only, for the server's user alone, as a
// folder, so that a change of it arrives.
func TestEveryServerHasItsSecrets(t *testing.T) {
	for name, p := range read(t).pods(t) {
		for _, c := range p.Spec.Containers {
			var named []string
			for _, e := range c.Env {
				if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
					t.Errorf("%s/%s: %s is a secret in a variable: whoever may look at the process reads it", name, c.Name, e.Name)
				}
				if strings.HasSuffix(e.Name, "_FILE") {
					named = append(named, e.Name)
					checkFile(t, name, p, c, e)
				}
			}
			for _, variable := range []string{"QUOIT_TOKEN_KEYS_FILE", "QUOIT_CLUSTER_SECRET_FILE", "QUOIT_S3_ACCESS_KEY_FILE", "QUOIT_S3_SECRET_KEY_FILE"} {
				if !slices.Contains(named, variable) {
					t.Errorf("%s/%s: no %s", name, c.Name, variable)
				}
			}
		}
	}
}

func checkFile(t *testing.T, pod string, p core.PodTemplateSpec, c core.Container, e core.EnvVar) {
	t.Helper()
	secret, keys := documented(t)
	dir, key := path.Split(e.Value)
	i := slices.IndexFunc(c.VolumeMounts, func(m core.VolumeMount) bool { return m.MountPath == path.Clean(dir) })
	if i < 0 {
		t.Errorf("%s/%s: %s=%s is on no volume", pod, c.Name, e.Name, e.Value)
		return
	}
	m := c.VolumeMounts[i]
	v := volumeOf(p, m.Name)
	switch {
	case !m.ReadOnly || m.SubPath != "":
		t.Errorf("%s/%s: want all of %s mounted, and read-only: %+v", pod, c.Name, m.Name, m)
	case v == nil || v.Secret == nil || v.Secret.SecretName != secret || !slices.Contains(keys, key):
		t.Errorf("%s/%s: %s=%s is no key of the Secret %s, which has %v", pod, c.Name, e.Name, e.Value, secret, keys)
	case v.Secret.DefaultMode == nil || *v.Secret.DefaultMode != 0o440:
		t.Errorf("%s: the files of %s can be read by others than the server's group: %+v", pod, v.Name, v.Secret)
	}
	if s := p.Spec.SecurityContext; s.FSGroup == nil || s.RunAsGroup == nil || *s.FSGroup != *s.RunAsGroup {
		t.Errorf("%s: the files of its Secrets do not belong to the server's group: %+v", pod, s)
	}
}

// volumeOf is the volume of that name, nil if the pod has none.
func volumeOf(p core.PodTemplateSpec, name string) *core.Volume {
	for i := range p.Spec.Volumes {
		if p.Spec.Volumes[i].Name == name {
			return &p.Spec.Volumes[i]
		}
	}
	return nil
}
