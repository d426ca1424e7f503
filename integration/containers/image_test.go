package containers

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/client"
	"github.com/quoitdb/quoit/internal/need"
	"github.com/testcontainers/testcontainers-go"
)

// Images that are there already can be tested instead of those that are built here.
const (
	quoitImage = "QUOIT_TEST_IMAGE"
	minioImage = "QUOIT_TEST_MINIO_IMAGE" // with a bucket called quoit
)

// theBinary is built once, as `task image` does. It ends with the run: see TestMain.
var theBinary = sync.OnceValues(func() (file string, err error) {
	file = filepath.Join(workplace, "quoit")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", file, "../../cmd/quoit")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the quoit binary: %w\n%s", err, out)
	}
	return file, nil
})

// buildQuoit makes of the binary and the repository's Dockerfile an image with a name of
// this run's own.
func buildQuoit(ctx context.Context) (image string, err error) {
	if image := os.Getenv(quoitImage); image != "" {
		return image, nil
	}
	binary, err := theBinary()
	if err != nil {
		return "", err
	}
	return buildImage(ctx, "quoit-test", "../../Dockerfile", binary)
}

// errNoMinIO is why a story that needs one skips.
var errNoMinIO = errors.New("MinIO is not built")

// theMinIO is made once, when the first story asks for it: of the binary that `task
// image:minio` builds, as other tests do that need it. Building that takes minutes,
// so a test does not.
var theMinIO = sync.OnceValues(func() (image string, err error) {
	if image := os.Getenv(minioImage); image != "" {
		return image, nil
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	binary := filepath.Join(cache, "quoit", "tools", "minio")
	if _, err := os.Stat(binary); err != nil {
		return "", fmt.Errorf("%w: %w", errNoMinIO, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	return buildImage(ctx, "quoit-test-minio", "../../deploy/minio/Dockerfile", binary)
})

// minio returns an image of MinIO, or skips the test.
func minio(t *testing.T) (image string) {
	t.Helper()
	image, err := theMinIO()
	if errors.Is(err, errNoMinIO) {
		need.Missing(t, "minio", fmt.Sprintf("MinIO (%v)", err), "build it once, which takes minutes: go tool -modfile=tools/task/go.mod task tools:minio")
	}
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// buildImage builds an image of one binary.
func buildImage(ctx context.Context, name, dockerfile, binary string) (image string, err error) {
	archive, err := buildContext(dockerfile, binary)
	if err != nil {
		return "", err
	}
	provider, err := testcontainers.NewDockerProvider()
	if err != nil {
		return "", err
	}
	defer func() { _ = provider.Close() }()
	var said bytes.Buffer
	image, err = provider.BuildImage(ctx, &testcontainers.ContainerRequest{FromDockerfile: testcontainers.FromDockerfile{
		ContextArchive: archive, Dockerfile: "Dockerfile",
		Repo: name, Tag: fmt.Sprint(os.Getpid()), KeepImage: true,
		BuildLogWriter: &said,
		BuildOptionsModifier: func(o *client.ImageBuildOptions) {
			o.Labels, o.Remove, o.ForceRemove = labels(), true, true
		},
	}})
	if err != nil {
		return "", fmt.Errorf("build %s: %w\n%s", dockerfile, err, said.Bytes())
	}
	return image, nil
}

// buildContext is what the Dockerfiles copy from: the binary and the empty folders
// of bin/image, see Taskfile.yml.
func buildContext(dockerfile, binary string) (io.ReadSeeker, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	add := func(name, file string) error {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o755, Size: int64(len(content))}); err != nil {
			return err
		}
		_, err = w.Write(content)
		return err
	}
	if err := add("Dockerfile", dockerfile); err != nil {
		return nil, err
	}
	if err := add("bin/image/"+filepath.Base(binary), binary); err != nil {
		return nil, err
	}
	for _, folder := range []string{"volumes/data", "volumes/bucket", "minio-volumes/data/quoit"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: "bin/image/" + folder + "/", Mode: 0o755}); err != nil {
			return nil, err
		}
	}
	return bytes.NewReader(archive.Bytes()), w.Close()
}
