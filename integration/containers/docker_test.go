package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/quoitdb/quoit/internal/need"
	"github.com/testcontainers/testcontainers-go"
)

// patience bounds every wait: far above what a healthy cluster takes on a busy
// machine, far below the test's own limit.
const patience = 90 * time.Second

// ownerLabel is on everything that a run makes: containers, networks, volumes,
// images. Its value is host/process, see [owner].
const ownerLabel = "quoit.test.owner"

// lifetime is how long a run can take at most: what carries the label and is older
// belongs to nobody any more, whoever made it.
const lifetime = time.Hour

// engine is Docker, reached and swept, with the image under test.
type engine struct {
	api   client.APIClient
	image string
}

// errNoDocker is why the stories skip.
var errNoDocker = errors.New("no Docker engine answers")

// theEngine is made once, when the first story asks for it.
var theEngine = sync.OnceValues(func() (*engine, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	api, err := reach(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNoDocker, err)
	}
	if err := sweep(ctx, api, abandoned); err != nil {
		return nil, fmt.Errorf("remove what an earlier run has left: %w", err)
	}
	image, err := buildQuoit(ctx)
	return &engine{api: api, image: image}, err
})

// docker returns the engine, or skips the test where there is none.
func docker(t *testing.T) *engine {
	t.Helper()
	if testing.Short() {
		t.Skip("starts containers; run without -short")
	}
	e, err := theEngine()
	if errors.Is(err, errNoDocker) {
		need.Missing(t, "docker", fmt.Sprintf("Docker (%v)", err), "start it, or apt-get install docker.io")
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// reach connects to Docker. The library panics where it finds no address to try.
func reach(ctx context.Context) (api client.APIClient, err error) {
	defer func() {
		if reason := recover(); reason != nil {
			err = fmt.Errorf("%v", reason)
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	dockerClient, err := testcontainers.NewDockerClientWithOpts(ctx)
	if err != nil {
		return nil, err
	}
	_, err = dockerClient.Ping(ctx, client.PingOptions{})
	return dockerClient, err
}

// owner names this process as long as it lives.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return host + "/" + strconv.Itoa(os.Getpid())
}

func labels() map[string]string { return map[string]string{ownerLabel: owner()} }

// abandoned says whether something that a run has made belongs to a run that is over.
func abandoned(who string, created time.Time) bool {
	host, process, _ := strings.Cut(who, "/")
	if here, _, _ := strings.Cut(owner(), "/"); host == here {
		pid, err := strconv.Atoi(process)
		if err != nil || dead(pid) {
			return true
		}
	}
	return time.Since(created) > lifetime
}

// dead says whether a process has ended, also where nobody has asked for its exit
// code yet.
func dead(pid int) bool {
	if errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return true
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, state, _ := bytes.Cut(stat, []byte(") "))
	return err == nil && bytes.HasPrefix(state, []byte("Z"))
}

// removeOwn removes everything that this process has made and finds out that it did.
func removeOwn(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	api, err := reach(ctx)
	if err != nil {
		return nil // without Docker nothing was made
	}
	return sweep(ctx, api, func(who string, _ time.Time) bool { return who == owner() })
}

// sweep removes what is ours and chosen: containers first, which hold all the rest.
func sweep(ctx context.Context, api client.APIClient, chosen func(who string, created time.Time) bool) error {
	var errs []error
	note := func(err error) { errs = append(errs, err) }
	pick := func(labels map[string]string, created time.Time) bool {
		who, ours := ownerOf(labels)
		return ours && chosen(who, created)
	}
	containers, err := api.ContainerList(ctx, client.ContainerListOptions{All: true})
	note(err)
	for _, c := range containers.Items {
		if pick(c.Labels, time.Unix(c.Created, 0)) {
			_, err := api.ContainerRemove(ctx, c.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
			note(err)
		}
	}
	networks, err := api.NetworkList(ctx, client.NetworkListOptions{})
	note(err)
	for _, n := range networks.Items {
		if pick(n.Labels, n.Created) {
			_, err := api.NetworkRemove(ctx, n.ID, client.NetworkRemoveOptions{})
			note(err)
		}
	}
	volumes, err := api.VolumeList(ctx, client.VolumeListOptions{})
	note(err)
	for _, v := range volumes.Items {
		created, err := time.Parse(time.RFC3339, v.CreatedAt)
		if err != nil {
			created = time.Now()
		}
		if pick(v.Labels, created) {
			_, err := api.VolumeRemove(ctx, v.Name, client.VolumeRemoveOptions{Force: true})
			note(err)
		}
	}
	images, err := api.ImageList(ctx, client.ImageListOptions{})
	note(err)
	for _, i := range images.Items {
		if pick(i.Labels, time.Unix(i.Created, 0)) {
			_, err := api.ImageRemove(ctx, i.ID, client.ImageRemoveOptions{Force: true, PruneChildren: true})
			note(err)
		}
	}
	return errors.Join(errs...)
}

// ownerOf reads off labels which run has made something. Compose puts labels of its
// own on what it makes: the project's name tells the process.
func ownerOf(labels map[string]string) (who string, ours bool) {
	if who, ours := labels[ownerLabel]; ours {
		return who, true
	}
	process, ours := strings.CutPrefix(labels["com.docker.compose.project"], projectPrefix)
	host, _, _ := strings.Cut(owner(), "/")
	return host + "/" + process, ours
}

// projectPrefix begins the name of every project that we give to Compose; the number
// of the process follows.
const projectPrefix = "quoit-test-"
