package transfer

import (
	"bytes"
	"strings"
	"testing"
)

func TestCSVReadsRows(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []Item
	}{
		"only a header":     {"key,value\n", nil},
		"key and value":     {"key,value\na,1\nb,2\n", []Item{{Key: "a", Value: []byte("1")}, {Key: "b", Value: []byte("2")}}},
		"the other way":     {"value,key\n1,a\n", []Item{{Key: "a", Value: []byte("1")}}},
		"capitals, spaces":  {"Key, VALUE\na,1\n", []Item{{Key: "a", Value: []byte("1")}}},
		"more columns":      {"id,key,value\n7,a,1\n", []Item{{Key: "a", Value: []byte("1")}}},
		"rows as objects":   {"id,name,born\n7,\"Ada <3\",1815\n", []Item{{Key: "7", Value: []byte(`{"born":"1815","name":"Ada <3"}`)}}},
		"quotes and lines":  {"key,value\n\"a,b\",\"two\nlines \"\"quoted\"\"\"\n", []Item{{Key: "a,b", Value: []byte("two\nlines \"quoted\"")}}},
		"empty value":       {"key,value\na,\n", []Item{{Key: "a", Value: []byte{}}}},
		"byte order mark":   {"\ufeffkey,value\na,1\n", []Item{{Key: "a", Value: []byte("1")}}},
		"CRLF, empty lines": {"key,value\r\n\r\na,1\r\n", []Item{{Key: "a", Value: []byte("1")}}},
		"one column":        {"key\na\n", []Item{{Key: "a", Value: []byte("{}")}}},
		"any bytes":         {"key,value\na,\xff\n", []Item{{Key: "a", Value: []byte{0xff}}}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := collect(CSV(strings.NewReader(c.in)))
			if err != nil {
				t.Fatal(err)
			}
			sameItems(t, got, c.want)
		})
	}
}

func TestAMistakeInCSVNamesTheLineAndWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want []string
		good int
	}{
		"nothing":              {"", []string{"line 1", "names the columns"}, 0},
		"a column too many":    {"key,value\na,1\nb,2,3\n", []string{"line 3", "wrong number of fields"}, 1},
		"a column too few":     {"key,value\na\n", []string{"line 2", "wrong number of fields"}, 0},
		"quote within":         {"key,value\na,1\nb,2\"3\n", []string{"line 3", `bare "`}, 1},
		"quote without end":    {"key,value\n\"a,1\n", []string{"line 2", `extraneous or missing "`}, 0},
		"no key":               {"name,key\nx,\n", []string{"line 2", `"key"`, "empty"}, 0},
		"no UTF-8 in objects":  {"id,name\n1,\xff\n", []string{"line 2", `"name"`, "UTF-8"}, 0},
		"quote in the header":  {"ke\"y,value\n", []string{"line 1", `bare "`}, 0},
		"mistake in row three": {"key,value\na,\"x\ny\"\n,1\n", []string{"line 4"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := collect(CSV(strings.NewReader(c.in)))
			mustContain(t, err, c.want...)
			if len(got) != c.good {
				t.Errorf("%d items before the mistake, want %d", len(got), c.good)
			}
		})
	}
}

func FuzzCSV(f *testing.F) {
	for _, seed := range []string{"key,value\na,1\n", "a,b\n1,\"x\ny\"\n", "\ufeffkey\n\"", "key,key\n1,2\n", ",\n,", "a\n\"\"\"\n"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		all, err := collect(CSV(bytes.NewReader(in)))
		if err != nil && !strings.Contains(err.Error(), "line ") {
			t.Errorf("error %q names no line", err)
		}
		for _, item := range all {
			if item.Key == "" {
				t.Error("a row without a key was taken")
			}
		}
	})
}
