package transfer

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestJSONLinesReadRecords(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []Item
	}{
		"nothing":              {"", nil},
		"only empty lines":     {"\n  \n\r\n", nil},
		"text":                 {`{"key":"a","value":"Ada"}`, []Item{{Key: "a", Value: []byte("Ada")}}},
		"empty value":          {`{"key":"a","value":""}`, []Item{{Key: "a", Value: []byte{}}}},
		"empty key, said so":   {`{"key":"","value":"x"}`, []Item{{Key: "", Value: []byte("x")}}},
		"two lines, CRLF":      {"{\"key\":\"a\",\"value\":\"1\"}\r\n{\"key\":\"b\",\"value\":\"2\"}\r\n", []Item{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}}},
		"time to live":         {`{"key":"a","value":"1","ttl_ms":1500}`, []Item{{Key: "a", Value: []byte("1"), TTL: 1500 * time.Millisecond}}},
		"object as value":      {`{"key":"a","value":{"b": [1, 2]}}`, []Item{{Key: "a", Value: []byte(`{"b": [1, 2]}`)}}},
		"number as value":      {`{"key":"a","value":17}`, []Item{{Key: "a", Value: []byte("17")}}},
		"binary value":         {`{"key":"a","base64":"/wA="}`, []Item{{Key: "a", Value: []byte{0xff, 0}}}},
		"empty binary value":   {`{"key":"a","base64":""}`, []Item{{Key: "a", Value: []byte{}}}},
		"binary key":           {`{"key_base64":"/wA=","value":"x"}`, []Item{{Key: "\xff\x00", Value: []byte("x")}}},
		"newline in key":       {`{"key":"a\nb","value":"x\ty"}`, []Item{{Key: "a\nb", Value: []byte("x\ty")}}},
		"unknown fields":       {`{"key":"a","value":"x","version":"17","found":true}`, []Item{{Key: "a", Value: []byte("x")}}},
		"byte order mark":      {"\ufeff" + `{"key":"a","value":"x"}`, []Item{{Key: "a", Value: []byte("x")}}},
		"no newline at end":    {"\n" + `{"key":"a","value":"x"}`, []Item{{Key: "a", Value: []byte("x")}}},
		"spaces around":        {"  " + `{"key":"a","value":"x"}` + " \t", []Item{{Key: "a", Value: []byte("x")}}},
		"null beside a base64": {`{"key":"a","value":null,"base64":"eA=="}`, []Item{{Key: "a", Value: []byte("x")}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := collect(JSONLines(strings.NewReader(c.in)))
			if err != nil {
				t.Fatal(err)
			}
			sameItems(t, got, c.want)
		})
	}
}

func sameItems(t *testing.T, got, want []Item) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d items, want %d: %q", len(got), len(want), got)
	}
	for i := range got {
		if got[i].Key != want[i].Key || !bytes.Equal(got[i].Value, want[i].Value) || got[i].TTL != want[i].TTL {
			t.Errorf("item %d is %q, want %q", i, got[i], want[i])
		}
	}
}

func TestAMistakeInJSONLinesNamesTheLineAndWhatIsWrong(t *testing.T) {
	good := `{"key":"a","value":"1"}` + "\n"
	for name, c := range map[string]struct {
		line string
		want []string
	}{
		"no JSON":               {`key,value`, []string{"column 1", "on each line"}},
		"broken JSON":           {`{"key":"a","value":"x"`, []string{"not JSON", "column 22", "unexpected end"}},
		"two on a line":         {`{"key":"a","value":"x"}{}`, []string{"column 24"}},
		"an array":              {`[{"key":"a","value":"x"}]`, []string{"this is a array"}},
		"no key":                {`{"value":"x"}`, []string{`no "key"`}},
		"null key":              {`{"key":null,"value":"x"}`, []string{`no "key"`}},
		"key of another kind":   {`{"key":17,"value":"x"}`, []string{`"key" is a number, not a string`}},
		"two keys":              {`{"key":"a","key_base64":"eA==","value":"x"}`, []string{`both "key" and "key_base64"`}},
		"no value":              {`{"key":"a"}`, []string{`no "value"`}},
		"null value":            {`{"key":"a","value":null}`, []string{`no "value"`}},
		"two values":            {`{"key":"a","value":"x","base64":"eA=="}`, []string{`both "value" and "base64"`}},
		"wrong base64":          {`{"key":"a","base64":"%%"}`, []string{`"base64"`, "illegal"}},
		"wrong base64 key":      {`{"key_base64":"%%","value":"x"}`, []string{`"key_base64"`, "illegal"}},
		"negative time to live": {`{"key":"a","value":"x","ttl_ms":-1}`, []string{`"ttl_ms" is -1`}},
		"endless time to live":  {`{"key":"a","value":"x","ttl_ms":9000000000000000}`, []string{`"ttl_ms" is 9000000000000000`}},
		"half a millisecond":    {`{"key":"a","value":"x","ttl_ms":0.5}`, []string{`"ttl_ms" is a number 0.5, not a whole number`}},
		"no UTF-8":              {"{\"key\":\"a\",\"value\":\"\xff\"}", []string{"UTF-8", "base64"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := collect(JSONLines(strings.NewReader(good + "\n" + c.line + "\n" + good)))
			mustContain(t, err, append(c.want, "line 3: ")...)
			if len(got) != 1 {
				t.Errorf("%d items before the mistake, want 1", len(got))
			}
		})
	}
}

func TestALineWithoutEndIsRefused(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("\n"), io.LimitReader(zeros{}, maxLine+10))
	_, err := collect(JSONLines(endless))
	mustContain(t, err, "line 2", "longer than")
}

// zeros reads as the digit 0 for ever.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

func TestAFailingReaderNamesTheLine(t *testing.T) {
	broken := errors.New("disk on fire")
	in := io.MultiReader(strings.NewReader(`{"key":"a","value":"x"}`+"\n"), iotest.ErrReader(broken))
	for name, source := range map[string]func(io.Reader) error{
		"jsonl": func(r io.Reader) error { _, err := collect(JSONLines(r)); return err },
		"csv":   func(r io.Reader) error { _, err := collect(CSV(r)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			err := source(io.MultiReader(in))
			if name == "csv" {
				err = source(iotest.ErrReader(broken))
			}
			if !errors.Is(err, broken) {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestRecordsGoRound(t *testing.T) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	for _, c := range []Item{
		{Key: "plain", Value: []byte("text")},
		{Key: "", Value: []byte("value of the empty key")},
		{Key: "empty value", Value: []byte{}},
		{Key: "nothing", Value: nil},
		{Key: "a key\nwith\x00 everything\t\"'", Value: []byte("<b>&amp;\u2028</b>")},
		{Key: string(every), Value: every},
		{Key: "zeros", Value: make([]byte, 1000)},
		{Key: "quotes", Value: bytes.Repeat([]byte{'"'}, 1000)},
		{Key: "expires", Value: []byte("x"), TTL: 1500 * time.Millisecond},
		{Key: "expires at once", Value: []byte("x"), TTL: time.Microsecond},
		{Key: "looks like base64", Value: []byte("eA==")},
		{Key: "looks like JSON", Value: []byte(`{"a":1}`)},
		{Key: "null", Value: []byte("null")},
	} {
		line, err := json.Marshal(newRecord(c.Key, c.Value, c.TTL))
		if err != nil {
			t.Fatal(err)
		}
		if len(line) > 3*len(c.Value)+6*len(c.Key)+100 {
			t.Errorf("%q: %d bytes of value make a line of %d", c.Key, len(c.Value), len(line))
		}
		got, err := parseRecord(line)
		if err != nil {
			t.Fatalf("%q does not come back from %s: %v", c.Key, line, err)
		}
		if c.TTL > 0 {
			c.TTL = max(c.TTL, time.Millisecond)
		}
		sameItems(t, []Item{got}, []Item{c})
	}
}

// What an export writes an import must be able to read: maxLine is twice the
// largest value, and then some.
func TestALineIsAtMostTwiceAsLongAsItsValue(t *testing.T) {
	const size = 1 << 20
	for name, value := range map[string][]byte{
		"text":    bytes.Repeat([]byte("x"), size),
		"binary":  bytes.Repeat([]byte{0xff}, size),
		"escaped": bytes.Repeat([]byte{'"'}, size),
		"zeros":   make([]byte, size),
	} {
		line, err := json.Marshal(newRecord("k", value, 0))
		if err != nil {
			t.Fatal(err)
		}
		if len(line) > 2*size+100 {
			t.Errorf("%s: a line of %d bytes for %d", name, len(line), size)
		}
	}
}

func FuzzJSONLines(f *testing.F) {
	for _, seed := range []string{
		`{"key":"user:1","value":"Ada","ttl_ms":60000}`, `{"key_base64":"/w==","base64":"AAA="}`, `{"key":"a","value":{"b":[1,null]}}`,
		"\ufeff{}", `{"key":"\ud800","value":"x"}`, "[]", `{"key":"a","value":null}`, "\n\n\x00",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		all, _ := collect(JSONLines(bytes.NewReader(in)))
		for _, item := range all {
			line, err := json.Marshal(newRecord(item.Key, item.Value, item.TTL))
			if err != nil {
				t.Fatal(err)
			}
			back, err := parseRecord(line)
			if err != nil {
				t.Fatalf("%q was read and does not come back from %s: %v", item, line, err)
			}
			sameItems(t, []Item{back}, []Item{item})
		}
	})
}
