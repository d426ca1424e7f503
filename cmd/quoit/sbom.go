package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"runtime/debug"
	"strings"
)

// bom is a bill of materials as CycloneDX 1.5 has it, of what the go tool has recorded
// in the binary: nothing in it is from anywhere else, and the same binary has the same.
type bom struct {
	Format       string          `json:"bomFormat"`
	Spec         string          `json:"specVersion"`
	Version      int             `json:"version"`
	Metadata     bomMetadata     `json:"metadata"`
	Components   []bomComponent  `json:"components"`
	Dependencies []bomDependency `json:"dependencies"`
}

type bomMetadata struct {
	Timestamp string       `json:"timestamp,omitempty"` // of the commit
	Component bomComponent `json:"component"`
}

type bomComponent struct {
	Type       string        `json:"type"` // application, library or platform
	Ref        string        `json:"bom-ref"`
	Name       string        `json:"name"`
	Version    string        `json:"version,omitempty"`
	PURL       string        `json:"purl,omitempty"`
	Hashes     []bomHash     `json:"hashes,omitempty"`
	Properties []bomProperty `json:"properties,omitempty"`
}

type bomHash struct {
	Algorithm string `json:"alg"`
	Content   string `json:"content"`
}

type bomProperty struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type bomDependency struct {
	Ref       string   `json:"ref"`
	DependsOn []string `json:"dependsOn,omitempty"`
}

var errNoBuildInfo = errors.New("this binary was built without the record of its modules: build it with the go tool, outside of GOPATH mode")

// billOf lists the modules that are linked in. Licences are not in the record, see
// docs/dependencies.md for those.
func billOf(info *debug.BuildInfo, ok bool) (*bom, error) {
	if !ok || info == nil {
		return nil, errNoBuildInfo
	}
	b := versionOf(info, true)
	main := moduleComponent("application", &debug.Module{Path: info.Main.Path, Version: info.Main.Version})
	for _, s := range info.Settings {
		main.Properties = append(main.Properties, bomProperty{"go:build:" + s.Key, s.Value})
	}
	bill := &bom{
		Format: "CycloneDX", Spec: "1.5", Version: 1,
		Metadata:   bomMetadata{Timestamp: b.Time, Component: main},
		Components: []bomComponent{},
	}
	linked := bomDependency{Ref: main.Ref}
	add := func(c bomComponent) {
		bill.Components = append(bill.Components, c)
		linked.DependsOn = append(linked.DependsOn, c.Ref)
	}
	goVersion := strings.TrimPrefix(info.GoVersion, "go")
	add(bomComponent{Type: "library", Ref: "pkg:golang/std@" + goVersion, Name: "std", Version: goVersion, PURL: "pkg:golang/std@" + goVersion})
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		add(moduleComponent("library", m))
	}
	bill.Dependencies = []bomDependency{linked}
	return bill, nil
}

// moduleComponent is a module by its name, version and the hash of go.sum, which is a
// SHA-256 over the names and hashes of its files.
func moduleComponent(kind string, m *debug.Module) bomComponent {
	purl := "pkg:golang/" + m.Path
	if m.Version != "" {
		purl += "@" + strings.ReplaceAll(m.Version, "+", "%2B")
	}
	c := bomComponent{Type: kind, Ref: purl, Name: m.Path, Version: m.Version, PURL: purl}
	if sum, ok := strings.CutPrefix(m.Sum, "h1:"); ok {
		if raw, err := base64.StdEncoding.DecodeString(sum); err == nil {
			c.Hashes = []bomHash{{"SHA-256", hex.EncodeToString(raw)}}
			c.Properties = []bomProperty{{"go:sum", m.Sum}}
		}
	}
	return c
}
