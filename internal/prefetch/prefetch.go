// Package prefetch asks the processor for memory that will be needed soon,
// without waiting for it: whoever knows several places ahead asks for all of
// them and then finds them in the cache, instead of waiting for one after the
// other. What is asked for is never read through the pointer, so that it is no
// race and may even be stale. On other processors than amd64 it does nothing.
package prefetch
