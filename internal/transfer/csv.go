package transfer

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"strings"
	"unicode/utf8"
)

// CSV yields a key from each row: the column named key (else the first) is the
// key. With a column named value, that is the value; otherwise the rest of the row
// is, as a JSON object of column and text. The first row names the columns. An
// error names the line.
func CSV(r io.Reader) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		rows := csv.NewReader(withoutMark(r))
		rows.ReuseRecord = true
		header, err := rows.Read()
		if err != nil {
			yield(Item{}, explainCSV(err))
			return
		}
		columns := append([]string(nil), header...)
		key, value := column(columns, "key", 0), column(columns, "value", -1)
		for {
			row, err := rows.Read()
			if errors.Is(err, io.EOF) {
				return
			}
			item := Item{}
			if err != nil {
				err = explainCSV(err)
			} else if item, err = rowItem(columns, row, key, value); err != nil {
				line, _ := rows.FieldPos(0)
				err = fmt.Errorf("line %d: %w", line, err)
			}
			if !yield(item, err) || err != nil {
				return
			}
		}
	}
}

// withoutMark passes over the mark that spreadsheets put at the beginning.
func withoutMark(r io.Reader) io.Reader {
	b := bufio.NewReader(r)
	if begin, err := b.Peek(len(byteOrderMark)); err == nil && string(begin) == byteOrderMark {
		_, _ = b.Discard(len(begin)) // it is in the buffer
	}
	return b
}

func explainCSV(err error) error {
	var wrong *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return errors.New("line 1: there is nothing: the first row names the columns")
	case errors.As(err, &wrong):
		return fmt.Errorf("line %d: column %d: %w", wrong.Line, wrong.Column, wrong.Err)
	}
	return fmt.Errorf("read: %w", err)
}

func column(names []string, name string, otherwise int) int {
	for i, n := range names {
		if strings.EqualFold(strings.TrimSpace(n), name) {
			return i
		}
	}
	return otherwise
}

func rowItem(columns, row []string, key, value int) (Item, error) {
	item := Item{Key: row[key]}
	if item.Key == "" {
		return Item{}, fmt.Errorf("the column %q, which is the key, is empty", columns[key])
	}
	if value >= 0 {
		item.Value = []byte(row[value])
	} else {
		object, err := rowObject(columns, row, key)
		if err != nil {
			return Item{}, err
		}
		item.Value = object
	}
	if len(item.Value) > MaxValue {
		return Item{}, fmt.Errorf("the value has %d bytes, more than %d", len(item.Value), MaxValue)
	}
	return item, nil
}

func rowObject(columns, row []string, key int) ([]byte, error) {
	object := make(map[string]string, len(row))
	for i, text := range row {
		if !utf8.ValidString(text) {
			return nil, fmt.Errorf("the column %q is not UTF-8, and JSON takes nothing else", columns[i])
		}
		if i != key {
			object[columns[i]] = text
		}
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(object); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
