package kubernetes

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const folder = "../../deploy/kubernetes"

// manifests are what the files of the folder say, by kind and name.
type manifests map[string]map[string]any

// kinds are the ones that can be read, each with a maker of its type. The key is what
// a file says of itself.
func kinds() map[meta.TypeMeta]func() any {
	return map[meta.TypeMeta]func() any{
		{APIVersion: "v1", Kind: "ConfigMap"}:                       func() any { return new(core.ConfigMap) },
		{APIVersion: "v1", Kind: "Service"}:                         func() any { return new(core.Service) },
		{APIVersion: "apps/v1", Kind: "Deployment"}:                 func() any { return new(apps.Deployment) },
		{APIVersion: "apps/v1", Kind: "StatefulSet"}:                func() any { return new(apps.StatefulSet) },
		{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"}:      func() any { return new(policy.PodDisruptionBudget) },
		{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}: func() any { return new(networking.NetworkPolicy) },
	}
}

// read decodes every document of every file, and takes nothing that it does not know.
func read(t *testing.T) manifests {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %d files, %v", folder, len(files), err)
	}
	all := make(manifests)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, document := range bytes.Split(text, []byte("\n---\n")) {
			kind, name, object, err := decode(document)
			if err != nil {
				t.Fatalf("%s, document %d: %v", file, i+1, err)
			}
			if all[kind] == nil {
				all[kind] = make(map[string]any)
			}
			if all[kind][name] != nil {
				t.Errorf("%s: a second %s called %s", file, kind, name)
			}
			all[kind][name] = object
		}
	}
	return all
}

func decode(document []byte) (kind, name string, object any, err error) {
	var of meta.TypeMeta
	if err := yaml.Unmarshal(document, &of); err != nil {
		return "", "", nil, err
	}
	create, known := kinds()[of]
	if !known {
		return "", "", nil, &unknownKind{of}
	}
	object = create()
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		return "", "", nil, err
	}
	return of.Kind, object.(meta.Object).GetName(), object, nil
}

type unknownKind struct{ meta.TypeMeta }

func (e *unknownKind) Error() string {
	return "apiVersion " + e.APIVersion + ", kind " + e.Kind + ": add it to kinds"
}

// pods are the templates with the labels that select them.
func (m manifests) pods(t *testing.T) map[string]core.PodTemplateSpec {
	t.Helper()
	pods := make(map[string]core.PodTemplateSpec)
	check := func(name string, s *meta.LabelSelector, template core.PodTemplateSpec) {
		if !matches(t, s, template.Labels) {
			t.Errorf("%s: the selector does not match the template's labels", name)
		}
		pods[name] = template
	}
	for name, d := range m["Deployment"] {
		check("Deployment/"+name, d.(*apps.Deployment).Spec.Selector, d.(*apps.Deployment).Spec.Template)
	}
	for name, s := range m["StatefulSet"] {
		check("StatefulSet/"+name, s.(*apps.StatefulSet).Spec.Selector, s.(*apps.StatefulSet).Spec.Template)
	}
	if len(pods) == 0 {
		t.Fatal("no pods")
	}
	return pods
}

func matches(t *testing.T, s *meta.LabelSelector, of map[string]string) bool {
	t.Helper()
	selector, err := meta.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return !selector.Empty() && selector.Matches(labels.Set(of))
}

func TestAFieldThatNobodyKnowsIsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {prots: []}":                 "prots",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{port: x}]}":        "port",
		"apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {type: A}\nspec: {type: B}":  "spec",
		"apiVersion: apps/v1beta1\nkind: StatefulSet\nmetadata: {name: a}\nspec: {replicas: 3}": "v1beta1",
	} {
		if _, _, _, err := decode([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one about %s", text, err, want)
		}
	}
}

func TestPodsAreLockedDown(t *testing.T) {
	for name, p := range read(t).pods(t) {
		s := p.Spec
		if c := s.SecurityContext; c == nil || c.RunAsNonRoot == nil || !*c.RunAsNonRoot || c.RunAsUser == nil || *c.RunAsUser == 0 ||
			c.SeccompProfile == nil || c.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
			t.Errorf("%s: want a pod that is not root and has the default seccomp profile: %+v", name, c)
		}
		if s.AutomountServiceAccountToken == nil || *s.AutomountServiceAccountToken {
			t.Errorf("%s: the pod gets a token of the API that it has no use for", name)
		}
		if s.EnableServiceLinks == nil || *s.EnableServiceLinks {
			t.Errorf("%s: a service of Quoit's would put variables that start with QUOIT_ into the pod, which refuses to start", name)
		}
		for _, c := range s.Containers {
			sc := c.SecurityContext
			if sc == nil || sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem ||
				sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation ||
				sc.Capabilities == nil || !slices.Equal(sc.Capabilities.Drop, []core.Capability{"ALL"}) || len(sc.Capabilities.Add) > 0 {
				t.Errorf("%s/%s: want a read-only root and no capabilities: %+v", name, c.Name, sc)
			}
			if c.Resources.Limits.Memory().IsZero() || c.Resources.Requests.Memory().IsZero() {
				t.Errorf("%s/%s: no memory asked for, or no limit", name, c.Name)
			}
		}
	}
}

func TestNamesMeet(t *testing.T) {
	m := read(t)
	for name, p := range m.pods(t) {
		for _, c := range p.Spec.Containers {
			ports := make(map[string]bool)
			for _, port := range c.Ports {
				ports[port.Name] = true
			}
			for path, probe := range map[string]*core.Probe{"/readyz": c.ReadinessProbe, "/healthz": c.LivenessProbe} {
				if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || !ports[probe.HTTPGet.Port.String()] {
					t.Errorf("%s/%s: want a probe of %s on a port that the container names: %+v", name, c.Name, path, probe)
				}
			}
			for _, e := range c.Env {
				m.checkSource(t, name, e)
			}
		}
	}
	for name, s := range m["StatefulSet"] {
		m.checkVolumes(t, name, s.(*apps.StatefulSet))
	}
	for name, s := range m["Service"] {
		m.checkService(t, name, s.(*core.Service))
	}
	for name, b := range m["PodDisruptionBudget"] {
		if m.selected(t, b.(*policy.PodDisruptionBudget).Spec.Selector) != 1 {
			t.Errorf("PodDisruptionBudget/%s: want it to select the pods of one kind", name)
		}
	}
	for name, n := range m["NetworkPolicy"] {
		if got, all := m.selected(t, &n.(*networking.NetworkPolicy).Spec.PodSelector), len(m.pods(t)); got != all {
			t.Errorf("NetworkPolicy/%s protects %d of %d kinds of pods", name, got, all)
		}
	}
}

// selected counts the kinds of pods that a selector chooses.
func (m manifests) selected(t *testing.T, s *meta.LabelSelector) (n int) {
	t.Helper()
	for _, p := range m.pods(t) {
		if matches(t, s, p.Labels) {
			n++
		}
	}
	return n
}

// checkSource finds the key of a ConfigMap that a variable takes its value from.
func (m manifests) checkSource(t *testing.T, pod string, e core.EnvVar) {
	t.Helper()
	if e.ValueFrom == nil || e.ValueFrom.ConfigMapKeyRef == nil {
		return
	}
	ref := e.ValueFrom.ConfigMapKeyRef
	found, is := m["ConfigMap"][ref.Name].(*core.ConfigMap)
	if !is || found.Data[ref.Key] == "" {
		t.Errorf("%s: %s comes from key %q of the ConfigMap %q, which is not there", pod, e.Name, ref.Key, ref.Name)
	}
}

// checkVolumes wants a claim for each mount, one service that names the pods, and the
// data folder of the node on a claim.
func (m manifests) checkVolumes(t *testing.T, name string, s *apps.StatefulSet) {
	t.Helper()
	service, found := m["Service"][s.Spec.ServiceName].(*core.Service)
	if !found || service.Spec.ClusterIP != core.ClusterIPNone {
		t.Errorf("StatefulSet/%s: its service %q is not there, or is not headless", name, s.Spec.ServiceName)
	}
	claims := make(map[string]bool)
	for _, c := range s.Spec.VolumeClaimTemplates {
		claims[c.Name] = !c.Spec.Resources.Requests.Storage().IsZero()
	}
	for _, c := range s.Spec.Template.Spec.Containers {
		mounted := make(map[string]bool)
		for _, v := range c.VolumeMounts {
			if !claims[v.Name] && volumeOf(s.Spec.Template, v.Name) == nil {
				t.Errorf("StatefulSet/%s: %s mounts %s, which neither a volume nor a claim with a size is called", name, c.Name, v.Name)
			}
			mounted[v.MountPath] = true
		}
		for _, e := range c.Env {
			if e.Name == "QUOIT_NODE_DATA" && !mounted[e.Value] {
				t.Errorf("StatefulSet/%s: QUOIT_NODE_DATA=%s is on no volume", name, e.Value)
			}
			if host := "." + s.Spec.ServiceName + "."; e.Name == "QUOIT_NODE_ADVERTISE" && !strings.Contains(e.Value, host) {
				t.Errorf("StatefulSet/%s: QUOIT_NODE_ADVERTISE=%s is no name that the service %s gives", name, e.Value, s.Spec.ServiceName)
			}
		}
	}
}

// checkService wants pods behind a service, with the ports that it points to.
func (m manifests) checkService(t *testing.T, name string, s *core.Service) {
	t.Helper()
	behind := 0
	for pod, p := range m.pods(t) {
		if !labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) {
			continue
		}
		behind++
		for _, port := range s.Spec.Ports {
			if !slices.ContainsFunc(p.Spec.Containers[0].Ports, func(c core.ContainerPort) bool {
				return c.Name == port.TargetPort.String() && c.ContainerPort == port.Port
			}) {
				t.Errorf("Service/%s: %s has no port %s with number %d", name, pod, port.TargetPort.String(), port.Port)
			}
		}
	}
	if behind != 1 {
		t.Errorf("Service/%s: want the pods of one kind behind it, not of %d", name, behind)
	}
}
