package main

import (
	"encoding/json"
	"regexp"
	"runtime/debug"
	"slices"
	"testing"
)

func TestTheBillOfMaterialsSaysWhatTheGoToolHasRecorded(t *testing.T) {
	info := &debug.BuildInfo{
		GoVersion: "go1.26.0",
		Main:      debug.Module{Path: "github.com/quoitdb/quoit", Version: "v1.2.3+dirty"},
		Deps: []*debug.Module{
			{Path: "example.org/a", Version: "v1.0.0", Sum: "h1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
			{Path: "example.org/b", Version: "v2.0.0", Replace: &debug.Module{Path: "example.org/c", Version: "v3.0.0"}},
		},
		Settings: []debug.BuildSetting{{Key: "vcs.time", Value: "2026-01-02T03:04:05Z"}, {Key: "CGO_ENABLED", Value: "0"}},
	}
	bill, err := billOf(info, true)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, c := range bill.Components {
		names = append(names, c.PURL)
	}
	if want := []string{"pkg:golang/std@1.26.0", "pkg:golang/example.org/a@v1.0.0", "pkg:golang/example.org/c@v3.0.0"}; !slices.Equal(names, want) {
		t.Errorf("components %q, want %q", names, want)
	}
	if h := bill.Components[1].Hashes; len(h) != 1 || h[0].Algorithm != "SHA-256" || !regexp.MustCompile("^0{64}$").MatchString(h[0].Content) {
		t.Errorf("hashes %+v", h)
	}
	if c := bill.Metadata.Component; c.PURL != "pkg:golang/github.com/quoitdb/quoit@v1.2.3%2Bdirty" || bill.Metadata.Timestamp != "2026-01-02T03:04:05Z" {
		t.Errorf("metadata %+v", bill.Metadata)
	}
	if _, err := billOf(nil, false); err == nil {
		t.Error("a bill of nothing")
	}
}

// TestTheBillOfMaterialsParses as whoever takes it in reads it.
func TestTheBillOfMaterialsParses(t *testing.T) {
	var bill struct {
		BomFormat, SpecVersion string
		Version                int
		Components             []struct {
			Type, Name, Version, PURL string
			Ref                       string `json:"bom-ref"`
			Hashes                    []struct{ Alg, Content string }
		}
		Dependencies []struct {
			Ref       string
			DependsOn []string
		}
	}
	out := must(t, "version", "--sbom")
	if err := json.Unmarshal([]byte(out), &bill); err != nil {
		t.Fatal(err)
	}
	if bill.BomFormat != "CycloneDX" || bill.SpecVersion != "1.5" || bill.Version != 1 || len(bill.Dependencies) != 1 {
		t.Errorf("%s %s %d, %d dependencies", bill.BomFormat, bill.SpecVersion, bill.Version, len(bill.Dependencies))
	}
	refs := map[string]bool{}
	for _, c := range bill.Components {
		if c.Type != "library" || c.Name == "" || c.Version == "" || c.Ref != c.PURL || refs[c.Ref] {
			t.Errorf("component %+v", c)
		}
		refs[c.Ref] = true
	}
	for _, ref := range bill.Dependencies[0].DependsOn {
		if !refs[ref] {
			t.Errorf("%s is linked and no component", ref)
		}
	}
	if !slices.ContainsFunc(bill.Components, func(c struct {
		Type, Name, Version, PURL string
		Ref                       string `json:"bom-ref"`
		Hashes                    []struct{ Alg, Content string }
	},
	) bool {
		return c.Name == "github.com/spf13/cobra" && len(c.Hashes) == 1
	}) {
		t.Error("cobra is missing, or its hash")
	}
	if must(t, "version", "--sbom") != out {
		t.Error("two bills of one binary differ")
	}
}
