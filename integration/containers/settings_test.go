package containers

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/gateway"
	"github.com/quoitdb/quoit/internal/failpoint"
	"github.com/quoitdb/quoit/internal/vfs"
	"github.com/quoitdb/quoit/manager"
	"github.com/quoitdb/quoit/node"
	"github.com/quoitdb/quoit/snapshot/bucket"
)

var update = flag.Bool("update", false, "write the table of settings into docs/operations.md")

const (
	operations = "../../docs/operations.md"
	tableBegin = "<!-- settings: begin -->\n"
	tableEnd   = "<!-- settings: end -->\n"
)

// setting is a line of what `quoit node --help` or `quoit manager --help` prints.
type setting struct{ name, otherwise, meaning string }

// settingsOf reads the table that a server prints of itself.
func settingsOf(t *testing.T, write func(io.Writer) error) []setting {
	t.Helper()
	var text bytes.Buffer
	if err := write(&text); err != nil {
		t.Fatal(err)
	}
	line := regexp.MustCompile(`(?m)^ +(QUOIT_[A-Z0-9_]+) +(\S+) +(.+)$`)
	var all []setting
	for _, m := range line.FindAllStringSubmatch(text.String(), -1) {
		all = append(all, setting{m[1], m[2], m[3]})
	}
	if lines := bytes.Count(text.Bytes(), []byte("\n")) - 1; len(all) != lines || len(all) == 0 {
		t.Fatalf("read %d of %d settings of:\n%s", len(all), lines, text.String())
	}
	return all
}

// settingsTable is all of them for docs/operations.md, with who reads each.
func settingsTable(t *testing.T) string {
	t.Helper()
	type row struct {
		setting
		who string
	}
	var rows []row
	for _, s := range settingsOf(t, manager.WriteConfigTable) {
		rows = append(rows, row{s, "manager"})
	}
	for _, server := range []struct {
		who   string
		table func(io.Writer) error
	}{{"node", node.WriteConfigTable}, {"gateway", gateway.WriteConfigTable}} {
		for _, s := range settingsOf(t, server.table) {
			i := slices.IndexFunc(rows, func(r row) bool { return r.name == s.name && r.meaning == s.meaning })
			if i < 0 { // new, or one name with another meaning
				rows = append(rows, row{s, server.who})
				continue
			}
			rows[i].who += ", " + server.who
		}
	}
	var b strings.Builder
	b.WriteString("| variable | of | default | meaning |\n|---|---|---|---|\n")
	for _, r := range rows {
		otherwise := "`" + r.otherwise + "`"
		if r.otherwise == "-" {
			otherwise = ""
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", r.name, r.who, otherwise, r.meaning)
	}
	return b.String()
}

func TestOperationsListsEverySetting(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), tableBegin)
	table, after, ends := strings.Cut(rest, tableEnd)
	if !found || !ends {
		t.Fatalf("%s has no %q and %q around the table of settings", operations, tableBegin, tableEnd)
	}
	want := settingsTable(t)
	if table == want {
		return
	}
	if !*update {
		t.Fatalf("the table in %s is not what the servers say; go test ./integration/containers -run TestOperations -update makes it:\n%s", operations, want)
	}
	if err := os.WriteFile(operations, []byte(before+tableBegin+want+tableEnd+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

// known are all variables that a server or a tool reads.
func known(t *testing.T) map[string]bool {
	t.Helper()
	all := map[string]bool{failpoint.Variable: true, vfs.AilingVariable: true, "QUOIT_SERVERS": true}
	for _, write := range []func(io.Writer) error{node.WriteConfigTable, manager.WriteConfigTable, gateway.WriteConfigTable} {
		for _, s := range settingsOf(t, write) {
			all[s.name] = true
		}
	}
	// Opening an S3 bucket asks for keys, under every name that they may have.
	_, err := bucket.ParseS3("s3://quoit", func(name string) string {
		all[name] = true
		return ""
	})
	if err == nil || !all["QUOIT_S3_ACCESS_KEY"] {
		t.Fatalf("an S3 bucket without keys: %v, asked for %v", err, slices.Sorted(maps.Keys(all)))
	}
	return all
}

// TestOperationsNamesWhatIsInNoTable is for what is read without being a setting of one
// server: the keys of the bucket, and what the tools take.
func TestOperationsNamesWhatIsInNoTable(t *testing.T) {
	text, err := os.ReadFile(operations)
	if err != nil {
		t.Fatal(err)
	}
	for variable := range known(t) {
		if strings.HasPrefix(variable, "QUOIT_") && !bytes.Contains(text, []byte("`"+variable+"`")) {
			t.Errorf("%s does not say what %s is", operations, variable)
		}
	}
}

// TestEveryVariableThatIsNamedExists keeps a setting that was renamed from living on
// where people copy it from.
func TestEveryVariableThatIsNamedExists(t *testing.T) {
	manifests, err := filepath.Glob("../../deploy/kubernetes/*.yaml")
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	files := append(manifests, "../../Dockerfile", "../../compose.yaml", "../../deploy/minio/Dockerfile", operations)
	more := map[string][]string{ // what else a file may name
		"compose.yaml":  {"QUOIT_IMAGE", "QUOIT_MEMORY", "QUOIT_MINIO_IMAGE", "QUOIT_NET", "QUOIT_PORT", "QUOIT_WEB_PORT", "QUOIT_REDIS_PORT", "QUOIT_SECRETS"}, // Compose fills these in
		"node.yaml":     {"QUOIT_NODE_PORT"},                                                                                                                    // what must not be there
		"manager.yaml":  {"QUOIT_MANAGER_PORT"},
		"operations.md": {"QUOIT_NODE_PORT"},
	}
	all, name := known(t), regexp.MustCompile(`\bQUOIT_[A-Z0-9_]*[A-Z0-9]\b`)
	seen := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, variable := range name.FindAllString(string(text), -1) {
			seen++
			if !all[variable] && !slices.Contains(more[filepath.Base(file)], variable) {
				t.Errorf("%s names %s, which nothing reads", file, variable)
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d variables were found in %v", seen, files)
	}
}

// TestTheBinaryBringsCertificateRoots: in an image from scratch there are no files of
// them, and no object store that speaks TLS would be trusted.
func TestTheBinaryBringsCertificateRoots(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "../../cmd/quoit").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if !slices.Contains(strings.Fields(string(out)), "golang.org/x/crypto/x509roots/fallback") {
		t.Error("cmd/quoit does not import golang.org/x/crypto/x509roots/fallback")
	}
}

// TestNoDeploymentLetsEverybodyIn: what people start and copy from asks for tokens, and
// has no secret in it that everybody knows.
func TestNoDeploymentLetsEverybodyIn(t *testing.T) {
	manifests, err := filepath.Glob("../../deploy/*/*")
	if err != nil || len(manifests) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	known := regexp.MustCompile(`QUOIT_ALLOW_UNAUTHENTICATED|QUOIT_(S3_\w+_KEY|CLUSTER_SECRET|TOKEN)\b|MINIO_ROOT_(USER|PASSWORD)\b:`)
	for _, file := range append(manifests, "../../compose.yaml", "../../Dockerfile", "../../Taskfile.yml") {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if found := known.FindString(line); found != "" && !strings.HasPrefix(line, "#") {
				t.Errorf("%s has %s: %s", file, found, line)
			}
		}
	}
}
