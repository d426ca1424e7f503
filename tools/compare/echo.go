package main

import (
	"bytes"
	"net"
)

// echo is the ceiling: a goroutine for each connection that counts the requests
// in what it has read and answers each with +OK, with one read and one write for
// each batch. No server in Go with a goroutine for each connection can be faster.
func echo(address string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go answer(c)
	}
}

func answer(c net.Conn) {
	defer func() { _ = c.Close() }()
	buf, out := make([]byte, 64<<10), []byte(nil)
	kept := 0
	for {
		n, err := c.Read(buf[kept:])
		if err != nil {
			return
		}
		requests, used := scan(buf[:kept+n])
		kept = copy(buf, buf[used:kept+n])
		out = out[:0]
		for range requests {
			out = append(out, "+OK\r\n"...)
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

// scan counts the complete requests at the start of b: arrays of bulk strings as
// redis-benchmark sends them, or plain lines. It trusts its input.
func scan(b []byte) (requests, used int) {
	for used < len(b) {
		rest := b[used:]
		end := bytes.IndexByte(rest, '\n') + 1
		if end == 0 {
			return requests, used
		}
		if rest[0] == '*' {
			for range number(rest[1:]) {
				header := bytes.IndexByte(rest[end:], '\n') + 1
				if header == 0 {
					return requests, used
				}
				if end += header + number(rest[end+1:]) + 2; end > len(rest) {
					return requests, used
				}
			}
		}
		used += end
		requests++
	}
	return requests, used
}

func number(b []byte) (n int) {
	for _, c := range b {
		if c < '0' || c > '9' {
			return n
		}
		n = 10*n + int(c-'0')
	}
	return n
}
