package protocol

// Match says whether all of s matches a glob pattern as Redis has it:
//
//   - any bytes, also none       [abc]    one of these
//     ?        any one byte               [a-z]    one of a range, in either order
//     \x       x itself                   [^a-z]   one that is not
//
// A class that is not closed ends with the pattern. Every pattern is valid.
//
// Only the last star is ever tried again with one byte more, which suffices:
// whatever an earlier star could do, the later one can. So the time is at most
// in proportion to len(pattern) * len(s).
func Match(pattern, s []byte) bool {
	p, i := 0, 0
	star, resume := -1, 0 // behind the last star, and where in s it is tried
	for i < len(s) {
		if p < len(pattern) && pattern[p] == '*' {
			p++
			star, resume = p, i
			continue
		}
		if next := matchByte(pattern, p, s[i]); next > 0 {
			p, i = next, i+1
			continue
		}
		if star < 0 {
			return false
		}
		resume++
		p, i = star, resume
	}
	for p < len(pattern) && pattern[p] == '*' {
		p++
	}
	return p == len(pattern)
}

// matchByte matches c with the element at pattern[p] and gives the position
// behind it; 0 when it does not match or the pattern is at its end.
func matchByte(pattern []byte, p int, c byte) (next int) {
	if p >= len(pattern) {
		return 0
	}
	switch pattern[p] {
	case '?':
		return p + 1
	case '[':
		in, next := matchClass(pattern, p+1, c)
		if !in {
			return 0
		}
		return next
	case '\\':
		if p+1 < len(pattern) {
			p++
		}
	}
	if pattern[p] != c {
		return 0
	}
	return p + 1
}

// matchClass matches c with the class that begins behind the bracket at
// pattern[p-1], and gives the position behind the class.
func matchClass(pattern []byte, p int, c byte) (in bool, next int) {
	negated := p < len(pattern) && pattern[p] == '^'
	if negated {
		p++
	}
	for p < len(pattern) && pattern[p] != ']' {
		low, high := pattern[p], pattern[p]
		switch {
		case low == '\\' && p+1 < len(pattern):
			low, high = pattern[p+1], pattern[p+1]
			p += 2
		case p+2 < len(pattern) && pattern[p+1] == '-':
			low, high = min(low, pattern[p+2]), max(low, pattern[p+2])
			p += 3
		default:
			p++
		}
		in = in || (low <= c && c <= high)
	}
	return in != negated, min(p+1, len(pattern))
}
