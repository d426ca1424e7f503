package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// talk is one connection to a server that speaks the protocol.
type talk struct {
	net.Conn
	in *bufio.Reader
}

func dial(address string) (*talk, error) {
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return nil, err
	}
	return &talk{c, bufio.NewReaderSize(c, 64<<10)}, nil
}

// command appends a request.
func command(b []byte, args ...string) []byte {
	b = fmt.Appendf(b, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
	}
	return b
}

// do asks, and returns the text of the answer.
func (t *talk) do(args ...string) (string, error) {
	if _, err := t.Write(command(nil, args...)); err != nil {
		return "", err
	}
	return t.reply()
}

var errNil = errors.New("there is no such key")

// reply reads one answer that is no array.
func (t *talk) reply() (string, error) {
	line, err := t.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	if line == "" {
		return "", errors.New("an empty answer")
	}
	switch text := line[1:]; line[0] {
	case '+', ':':
		return text, nil
	case '$':
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return "", errors.Join(errNil, err)
		}
		b := make([]byte, n+2)
		_, err = io.ReadFull(t.in, b)
		return string(b[:n]), err
	case '-':
		return "", errors.New(text)
	}
	return "", fmt.Errorf("not an answer that was expected: %q", line)
}

// once dials, asks once and hangs up.
func (s *server) once(args ...string) (string, error) {
	t, err := dial(s.address())
	if err != nil {
		return "", err
	}
	defer t.Close()
	text, err := t.do(args...)
	if err != nil {
		err = fmt.Errorf("%s: %s: %w", s.name, strings.Join(args, " "), err)
	}
	return text, err
}

// keyOf is the name that redis-benchmark gives to key i: 16 bytes.
func keyOf(i int) string { return fmt.Sprintf("key:%012d", i) }

// values says what the keys hold.
type values func(key int) []byte

// equal values are all the same.
func equal(size int) values {
	value := bytes.Repeat([]byte{'v'}, size)
	return func(int) []byte { return value }
}

// halfRandom values are random in their first half, other ones in each
// generation, and of equal bytes in the second.
func halfRandom(size int, generation uint64) values {
	value := bytes.Repeat([]byte{'v'}, size)
	return func(key int) []byte {
		x := uint64(key)<<20 + generation
		for i := range size / 2 {
			if i%8 == 0 {
				x = mixed(x)
			}
			value[i] = byte(x >> (i % 8 * 8))
		}
		return value
	}
}

// mixed is a step of splitmix64.
func mixed(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// all are the first n keys.
func all(n int) []int {
	keys := make([]int, n)
	for i := range keys {
		keys[i] = i
	}
	return keys
}

// fill writes keys through one connection.
func fill(ctx context.Context, s *server, keys []int, value values) error {
	c, err := dial(s.address())
	if err != nil {
		return err
	}
	defer c.Close()
	ended := make(chan error, 1)
	go func() {
		for range keys {
			if _, err := c.reply(); err != nil {
				ended <- fmt.Errorf("fill %s: %w", s.name, err)
				c.Close()
				return
			}
		}
		ended <- nil
	}()
	var b bytes.Buffer
	for i, key := range keys {
		v := value(key)
		fmt.Fprintf(&b, "*3\r\n$3\r\nSET\r\n$16\r\n%s\r\n$%d\r\n", keyOf(key), len(v))
		b.Write(v)
		b.WriteString("\r\n")
		if b.Len() > 64<<10 || i == len(keys)-1 {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if _, err := c.Write(b.Bytes()); err != nil {
				return errors.Join(err, <-ended)
			}
			b.Reset()
		}
	}
	return <-ended
}
