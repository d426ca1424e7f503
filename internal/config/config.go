// Package config fills a server's settings from environment variables and
// explains them.
//
// A settings struct says everything in its tags: `env` names the variable,
// `envDefault` its default, `help` what it means and `want` what a right value
// looks like. Load parses them all and returns every mistake at once, each as an
// *Error with the variable, the value found and what would be right; WriteTable
// prints the same tags for --help. Field names must be unique within a struct
// and the structs nested in it. A field of type Secret comes from its variable or
// from a file, and nothing here prints it.
package config

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"sort"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/caarlos0/env/v11"
)

// Error is one variable with a wrong value.
type Error struct {
	Variable string // such as QUOIT_NODE_ADDR
	Value    string // as found
	Want     string // what would be right
}

// Error names the variable, its value and what would be right.
func (e *Error) Error() string {
	return fmt.Sprintf("%s=%q: want %s", e.Variable, e.Value, e.Want)
}

// Environ turns os.Environ() into the map that Load takes.
func Environ(list []string) map[string]string { return env.ToMap(list) }

// Load fills the struct that dst points to. An empty or missing variable takes
// its default. The error joins one *Error for each wrong variable.
func Load(dst any, environ map[string]string) error {
	return errors.Join(append([]error{loadVariables(dst, environ)}, loadSecretFiles(dst, environ)...)...)
}

func loadVariables(dst any, environ map[string]string) error {
	err := env.ParseWithOptions(dst, env.Options{Environment: environ})
	var all env.AggregateError
	if !errors.As(err, &all) {
		return err
	}
	fields := fieldsOf(reflect.TypeOf(dst))
	for i, err := range all.Errors {
		var bad env.ParseError
		if !errors.As(err, &bad) {
			continue
		}
		f := fields.named(bad.Name)
		want := f.want
		if want == "" {
			want = defaultWant(bad.Type)
		}
		all.Errors[i] = &Error{Variable: f.variable, Value: environ[f.variable], Want: want}
	}
	return errors.Join(all.Errors...)
}

// Read is Load for a struct that checks itself. Variables that begin with one of the
// prefixes must be settings of it.
func Read[T any, P interface {
	*T
	Validate() error
}](environ map[string]string, prefixes ...string) (T, error) {
	var c, none T
	errs := []error{Load(&c, environ)}
	for _, prefix := range prefixes {
		errs = append(errs, Unknown(environ, prefix, c))
	}
	if err := errors.Join(errs...); err != nil {
		return none, err
	}
	if err := P(&c).Validate(); err != nil {
		return none, err
	}
	return c, nil
}

// Default is what an empty environment makes of a T. A default that does not parse is
// a mistake of the program, and panics.
func Default[T any]() T {
	var c T
	if err := Load(&c, nil); err != nil {
		panic(fmt.Sprintf("config: a default in the tags of %T does not parse: %v", c, err))
	}
	return c
}

// Wrong makes an *Error for a value that parsed but makes no sense, looked up by
// the field's name: the check lives with the settings, the words with the tags.
func Wrong(src any, field, want string) error {
	f := fieldsOf(reflect.TypeOf(src)).named(field)
	return &Error{Variable: f.variable, Value: f.valueIn(src), Want: want}
}

// Unknown returns an error for each variable that starts with prefix and that
// none of the samples has, with the nearest right name: a typing mistake must
// not turn into a default without a word.
func Unknown(environ map[string]string, prefix string, samples ...any) error {
	var known fieldList
	for _, s := range samples {
		known = append(known, fieldsOf(reflect.TypeOf(s))...)
	}
	var names []string
	for name := range environ {
		if strings.HasPrefix(name, prefix) && !known.has(name) {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var errs []error
	for _, name := range names {
		errs = append(errs, fmt.Errorf("%s is not a setting; did you mean %s?", name, known.nearest(name)))
	}
	return errors.Join(errs...)
}

// WriteTable prints name, default and meaning of every setting in the struct
// sample, in the order of its fields.
func WriteTable(w io.Writer, sample any) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "  VARIABLE\tDEFAULT\tMEANING")
	for _, f := range fieldsOf(reflect.TypeOf(sample)) {
		def := f.def
		if def == "" {
			def = "-"
		}
		fmt.Fprintf(tw, "  %s\t%s\t%s\n", f.variable, def, f.help)
		if f.secret {
			fmt.Fprintf(tw, "  %s\t-\tor the file that it is in\n", f.variable+fileSuffix)
		}
	}
	return tw.Flush()
}

// field is what the tags of one setting say.
type field struct {
	name, variable, def, help, want string
	index                           []int
	secret                          bool
}

type fieldList []field

func fieldsOf(t reflect.Type) fieldList {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	var out fieldList
	for _, sf := range reflect.VisibleFields(t) {
		if sf.Type.Kind() == reflect.Struct && sf.Tag.Get("env") == "" && !sf.Anonymous {
			for _, f := range fieldsOf(sf.Type) {
				f.index = append(append([]int(nil), sf.Index...), f.index...)
				out = append(out, f)
			}
			continue
		}
		name, _, _ := strings.Cut(sf.Tag.Get("env"), ",")
		if name == "" || name == "-" {
			continue
		}
		out = append(out, field{
			name: sf.Name, variable: name, index: sf.Index,
			def: sf.Tag.Get("envDefault"), help: sf.Tag.Get("help"), want: sf.Tag.Get("want"),
			secret: sf.Type == reflect.TypeFor[Secret](),
		})
	}
	return out
}

func (l fieldList) named(name string) field {
	for _, f := range l {
		if f.name == name {
			return f
		}
	}
	return field{variable: name}
}

func (l fieldList) has(variable string) bool {
	for _, f := range l {
		if f.variable == variable || f.secret && f.variable+fileSuffix == variable {
			return true
		}
	}
	return false
}

// nearest returns the known variable with the smallest edit distance.
func (l fieldList) nearest(name string) string {
	best, at := "", 1<<30
	for _, f := range l {
		if d := distance(name, f.variable); d < at {
			best, at = f.variable, d
		}
	}
	return best
}

func (f field) valueIn(src any) string {
	if f.index == nil {
		return ""
	}
	return fmt.Sprint(f.in(src).Interface())
}

// in is the field in a struct, or in what a pointer leads to.
func (f field) in(src any) reflect.Value {
	v := reflect.ValueOf(src)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	return v.FieldByIndex(f.index)
}

func defaultWant(t reflect.Type) string {
	switch {
	case t.String() == "time.Duration":
		return "a duration such as 500ms, 10s or 2m"
	case t == reflect.TypeFor[Bytes]():
		return "a size such as 64MiB, 500KB or 4096"
	case t.Kind() == reflect.Bool:
		return "true or false"
	case t.Kind() >= reflect.Int && t.Kind() <= reflect.Uint64:
		return "a whole number"
	}
	return "a " + t.String()
}

// distance is Levenshtein's, on bytes: names are ASCII.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		diagonal := row[0]
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := diagonal
			if a[i-1] != b[j-1] {
				change++
			}
			diagonal = row[j]
			row[j] = min(change, row[j]+1, row[j-1]+1)
		}
	}
	return row[len(b)]
}

// List is several words in one variable, parted by commas.
type List []string

// UnmarshalText parts the words and leaves out empty ones.
func (l *List) UnmarshalText(text []byte) error {
	*l = nil
	for word := range strings.SplitSeq(string(text), ",") {
		if word = strings.TrimSpace(word); word != "" {
			*l = append(*l, word)
		}
	}
	return nil
}

// String is what UnmarshalText reads.
func (l List) String() string { return strings.Join(l, ",") }

// Bytes is a number of bytes that people write as 64MiB, 1GiB, 500KB or 4096.
type Bytes int64

// units in the order in which a suffix is tried: the longer ones first.
func units() []struct {
	suffix string
	factor int64
} {
	return []struct {
		suffix string
		factor int64
	}{
		{"KiB", 1 << 10},
		{"MiB", 1 << 20},
		{"GiB", 1 << 30},
		{"TiB", 1 << 40},
		{"KB", 1e3},
		{"MB", 1e6},
		{"GB", 1e9},
		{"TB", 1e12},
		{"B", 1},
		{"", 1},
	}
}

// UnmarshalText reads a whole number with an optional unit.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	for _, u := range units() {
		digits, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
		if err != nil || n < 0 || n > (1<<62)/u.factor {
			break
		}
		*b = Bytes(n * u.factor)
		return nil
	}
	return errors.New("want a size such as 64MiB, 500KB or 4096")
}

// String writes the largest binary unit that divides the number.
func (b Bytes) String() string {
	for _, u := range []struct {
		suffix string
		factor Bytes
	}{{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if b >= u.factor && b%u.factor == 0 {
			return strconv.FormatInt(int64(b/u.factor), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(b), 10)
}
