package protocol

import "strconv"

// Limits bounds what a peer may make this side read, keep or loop over. Every
// size that comes from outside is compared with one of these before it is
// added to anything, allocated or counted to. A field that is zero stands for
// its value in DefaultLimits, and no limit is above 1 GiB.
type Limits struct {
	MaxInline  int // bytes in one plain text line, or one line of a reply
	MaxArgs    int // arguments in one request, or elements in one reply
	MaxKey     int // bytes in a key
	MaxValue   int // bytes in a value
	MaxRequest int // bytes in one request or reply as it stands on the wire
}

const (
	defaultMaxInline  = 64 << 10
	defaultMaxArgs    = 1 << 20
	defaultMaxKey     = 64 << 10
	defaultMaxValue   = 64 << 20
	defaultMaxRequest = 512 << 20

	// ceiling is the largest value that a limit has, whatever was configured:
	// ten times it fits an int64, and positions and sums stay within an int.
	ceiling = 1 << 30

	// recordSlack is the room beside key and value in a bulk string: a member
	// sends whole records (STAGE_DATA), and the record of the largest key and
	// the largest value must fit.
	recordSlack = 1 << 10
)

// DefaultLimits are the limits of a node that was configured with nothing else.
func DefaultLimits() Limits {
	return Limits{
		MaxInline:  defaultMaxInline,
		MaxArgs:    defaultMaxArgs,
		MaxKey:     defaultMaxKey,
		MaxValue:   defaultMaxValue,
		MaxRequest: defaultMaxRequest,
	}
}

// fill replaces each limit that is not from 1 to ceiling.
func (l *Limits) fill() {
	d := DefaultLimits()
	for _, limit := range [...]struct {
		value    *int
		fallback int
	}{
		{&l.MaxInline, d.MaxInline},
		{&l.MaxArgs, d.MaxArgs},
		{&l.MaxKey, d.MaxKey},
		{&l.MaxValue, d.MaxValue},
		{&l.MaxRequest, d.MaxRequest},
	} {
		if *limit.value <= 0 {
			*limit.value = limit.fallback
		}
		*limit.value = min(*limit.value, ceiling)
	}
}

// filled says whether fill would change nothing. It is asked for each request.
func (l *Limits) filled() bool {
	return usable(l.MaxInline) && usable(l.MaxArgs) && usable(l.MaxKey) && usable(l.MaxValue) && usable(l.MaxRequest)
}

func usable(limit int) bool { return limit > 0 && limit <= ceiling }

// maxBulk is the longest bulk string that is read at all. It leaves room for
// one member's record of the longest key with the longest value; that a value
// on its own is not longer than MaxValue is for Check to say.
func (l *Limits) maxBulk() int {
	room := min(l.MaxKey, ceiling/2) + recordSlack
	return min(l.MaxValue, ceiling-room) + room
}

// CheckKey says whether key may be a key: TOOLARGE when it is longer than MaxKey.
func (l Limits) CheckKey(key []byte) error {
	l.fill()
	if len(key) <= l.MaxKey {
		return nil
	}
	return tooLarge("key", len(key), l.MaxKey)
}

// CheckValue says whether value may be a value: TOOLARGE when it is longer than MaxValue.
func (l Limits) CheckValue(value []byte) error {
	l.fill()
	if len(value) <= l.MaxValue {
		return nil
	}
	return tooLarge("value", len(value), l.MaxValue)
}

func tooLarge(what string, size, limit int) *Error {
	return &Error{Code: TOOLARGE, Message: "the " + what + " has " + strconv.Itoa(size) +
		" bytes and the limit is " + strconv.Itoa(limit)}
}
