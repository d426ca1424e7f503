package bucket

import (
	"net"
	"time"

	"github.com/minio/minio-go/v7"
)

// Steps are the moments of a write, in their order.
var Steps = []string{
	string(stepCreate), string(stepWrite), string(stepSync), string(stepMark),
	string(stepRename), string(stepSyncDir), string(stepClear),
}

// OnStep has fn called as each step begins; an error from it fails the step.
func (f *Folder) OnStep(fn func(name string) error) {
	f.step = func(s step) error { return fn(string(s)) }
}

// Create lays the folder out, as who has looked for the format and found none.
func (f *Folder) Create() error { return f.create() }

// CutInto makes the parts of large bodies small.
func (s *S3) CutInto(size int64) { s.parts.size = size }

// HurryAll makes the pauses of the S3 library short, for every test of this package.
func HurryAll() { minio.DefaultRetryUnit = time.Millisecond }

// Hurry makes the pauses between two tries short.
func (s *S3) Hurry() { s.firstPause = time.Millisecond }

// ConnectAtLeisure bounds how long the other side may be silent, and not how long it
// takes to connect: only what was sent over a connection can be in doubt.
func (s *S3) ConnectAtLeisure(limit time.Duration) {
	s.transport.DialContext = stalling(&net.Dialer{}, limit)
}
