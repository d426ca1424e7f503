package ring

import "strconv"

// InvalidError says which value was refused, and why.
type InvalidError struct {
	Subject string // what the value was meant to be, such as "address"
	Value   string // the value as it was given
	Reason  string // what is wrong with it, or what would be right
}

func invalid(subject, value, reason string) error {
	return &InvalidError{Subject: subject, Value: value, Reason: reason}
}

// Error returns one line, whatever bytes the value holds.
func (e *InvalidError) Error() string {
	return e.Subject + " " + quote(e.Value) + ": " + e.Reason
}

// TextError says in which line of a topology text the reading stopped.
type TextError struct {
	Line int // counted from 1
	Err  error
}

// Error names the line and what is wrong there.
func (e *TextError) Error() string {
	return "topology text, line " + strconv.Itoa(e.Line) + ": " + e.Err.Error()
}

// Unwrap returns what is wrong in the line.
func (e *TextError) Unwrap() error { return e.Err }

// VersionError is the answer to a topology text of a format that this build does
// not know, which most likely comes from a newer Quoit.
type VersionError struct {
	Version string // the version that the text claims
}

// Error names both the version found and the one supported.
func (e *VersionError) Error() string {
	return "topology format " + quote(e.Version) + " is not supported, only version " + textVersion +
		" is: upgrade this program to the release that the cluster runs"
}

// quote makes text from outside fit for a message: printable, and not endless.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		return strconv.Quote(text[:most]) + "..."
	}
	return strconv.Quote(text)
}
