package protocol_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/quoitdb/quoit/protocol"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata and the table in docs/protocol.md")

// The scripts in testdata are conversations. A line
//
//	> bytes       goes to a RequestParser, \r \n \xHH being escapes as in Go; a line end is not added
//	< bytes       goes to a ReplyParser
//	# text        is a remark
//
// and the lines below, up to an empty one, say what was understood. Bytes that
// do not end a request wait for the next. "go test -update" writes them anew;
// read the difference.
func TestConversations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			script, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(script))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			} else if got != string(script) {
				t.Errorf("the conversation is now\n%s", got)
			}
		})
	}
}

// runScript gives the script back with what is said today.
func runScript(t *testing.T, script string) string {
	t.Helper()
	var out strings.Builder
	requests, replies := &listener{}, &listener{}
	for block := range strings.SplitSeq(strings.TrimSpace(script), "\n\n") {
		for line := range strings.Lines(block + "\n") {
			switch {
			case strings.HasPrefix(line, "> "):
				out.WriteString(line + requests.hear(t, line[2:], nextRequest))
			case strings.HasPrefix(line, "< "):
				out.WriteString(line + replies.hear(t, line[2:], nextReply))
			case strings.HasPrefix(line, "#"):
				out.WriteString(line)
			}
		}
		out.WriteString("\n")
	}
	return strings.TrimSuffix(out.String(), "\n")
}

// listener keeps what has not been understood yet.
type listener struct {
	requests protocol.RequestParser
	replies  protocol.ReplyParser
	buf      []byte
}

// hear says what each complete request or reply means.
func (l *listener) hear(t *testing.T, line string, next func(l *listener) (string, int, error)) string {
	t.Helper()
	sent, err := strconv.Unquote(`"` + strings.ReplaceAll(strings.TrimSuffix(line, "\n"), `"`, `\"`) + `"`)
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	l.buf = append(l.buf, sent...)
	var out strings.Builder
	for {
		said, n, err := next(l)
		if err != nil {
			*l = listener{}
			return out.String() + "closed: " + err.Error() + "\n"
		}
		if n == 0 {
			if len(l.buf) > 0 {
				out.WriteString("waiting\n")
			}
			return out.String()
		}
		out.WriteString(said)
		l.buf = l.buf[n:]
	}
}

func nextRequest(l *listener) (said string, n int, err error) {
	request, n, err := l.requests.Next(l.buf)
	if n == 0 || len(request) == 0 {
		return "", n, err
	}
	return understand(request) + "\n", n, nil
}

func nextReply(l *listener) (said string, n int, err error) {
	r, n, err := l.replies.Next(l.buf)
	if n == 0 {
		return "", n, err
	}
	return showReply(r) + "\n", n, nil
}

// understand says what a request means, or how it is answered if it is wrong.
func understand(request [][]byte) string {
	c, ok := protocol.Lookup(request[0])
	if !ok {
		return "-" + protocol.UnknownCommand(request[0]).Error()
	}
	if err := protocol.DefaultLimits().Check(c, request); err != nil {
		return "-" + err.Error()
	}
	parsed, err := parseAny(c, request)
	if err != nil {
		return "-" + err.Error()
	}
	if parsed == nil {
		return fmt.Sprintf("%s %q", c, stringsOf(request[1:]))
	}
	return fmt.Sprintf("%s %s", c, showArgs(parsed))
}

// showArgs prints the options of a command: those that are not zero.
func showArgs(parsed any) string {
	v := reflect.ValueOf(parsed)
	switch v.Kind() {
	case reflect.Slice:
		return showField(v)
	case reflect.Struct:
	default:
		return fmt.Sprint(parsed)
	}
	var fields []string
	for i := range v.NumField() {
		if !v.Field(i).IsZero() {
			fields = append(fields, v.Type().Field(i).Name+"="+showField(v.Field(i)))
		}
	}
	return strings.Join(fields, " ")
}

func showField(v reflect.Value) string {
	switch value := v.Interface().(type) {
	case []byte:
		return strconv.Quote(string(value))
	case [][]byte:
		return fmt.Sprintf("%q", stringsOf(value))
	case protocol.Expiry:
		return [...]string{"none", "in ", "at ", "keep"}[value.Kind] + strings.TrimPrefix(fmt.Sprint(value.Millis, "ms"), "0 ms")
	case protocol.AuthArgs:
		return "{" + showArgs(value) + "}"
	default:
		return fmt.Sprint(value)
	}
}

func showReply(r protocol.Reply) string {
	switch {
	case r.Null:
		return "null"
	case r.Kind == '-':
		return fmt.Sprintf("error %s: %s", r.Err().Code, r.Err().Message)
	case r.Kind == ':':
		return strconv.FormatInt(r.Int, 10)
	case r.Kind == '*':
		var elements []string
		for _, element := range r.Array {
			elements = append(elements, showReply(element))
		}
		return "[" + strings.Join(elements, " ") + "]"
	default:
		return strconv.Quote(string(r.Bytes))
	}
}
