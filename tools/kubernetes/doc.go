// Package kubernetes checks the manifests in deploy/kubernetes against the types of
// the Kubernetes API: no field that it does not know, none of the wrong type, and
// names that refer to each other and meet. It is a module of its own because those
// types would be half of Quoit's dependencies. It has no code.
//
//	go test -C tools/kubernetes -count=1 ./...
//
// -count=1, because go test does not see that a file outside the module has changed.
package kubernetes
