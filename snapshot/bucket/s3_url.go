package bucket

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// S3Config says where an S3 bucket is and how to reach it.
type S3Config struct {
	Bucket string
	// Prefix goes in front of every key, with a slash between. It may be empty.
	Prefix string
	// Endpoint is the address of the store, http://host:port or https://host:port.
	Endpoint string
	// Region is what requests are signed for. Most stores other than AWS take
	// us-east-1, which an empty one means.
	Region string
	// Addressing is where the bucket's name goes: "path" (host/bucket), "virtual"
	// (bucket.host), or empty for what the endpoint is known to want.
	Addressing string
	// CAFile names certificates in PEM form that are trusted beside the system's.
	CAFile string
	// Timeout is how long the store may make no progress at all; 0 means 30 seconds.
	Timeout time.Duration
	Keys    S3Keys
}

// S3Keys are the credentials. They do not show when they are printed.
type S3Keys struct{ Access, Secret, Token string }

// Format prints that there is something, and not what.
func (k S3Keys) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, "[keys hidden]") }

// MarshalText is Format for encoders.
func (k S3Keys) MarshalText() ([]byte, error) { return []byte("[keys hidden]"), nil }

const (
	defaultRegion   = "us-east-1"
	defaultEndpoint = "https://s3.amazonaws.com"
	defaultTimeout  = 30 * time.Second
	s3Want          = "want s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1"
)

// s3Parameters are what may stand behind the question mark.
var s3Parameters = []string{"addressing", "ca", "endpoint", "region", "timeout"}

// ParseS3 reads the URL of a bucket and takes the rest from environment variables:
//
//	s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1&ca=/path/ca.pem&addressing=path&timeout=30s
//
// Everything behind the bucket's name may be left out: the endpoint is then
// AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL or AWS itself, the region AWS_REGION,
// AWS_DEFAULT_REGION or us-east-1, the authorities QUOIT_S3_CA_FILE. Keys are never in the URL, which ends up in
// logs: they are the first pair that is set of QUOIT_S3_ACCESS_KEY and
// QUOIT_S3_SECRET_KEY, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with
// AWS_SESSION_TOKEN), MINIO_ROOT_USER and MINIO_ROOT_PASSWORD. Each of the first
// and the last may be given as a file instead, under its name with _FILE.
func ParseS3(location string, getenv func(string) string) (S3Config, error) {
	u, err := url.Parse(location)
	if err != nil || u.Scheme != "s3" || u.Opaque != "" || u.Fragment != "" {
		return S3Config{}, fmt.Errorf("bucket URL: not the URL of an S3 bucket: %s", s3Want) // Unseen: it may hold a key.
	}
	if u.User != nil {
		return S3Config{}, errors.New("bucket URL: keys do not belong in a URL: " +
			"set QUOIT_S3_ACCESS_KEY and QUOIT_S3_SECRET_KEY (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY): " + s3Want)
	}
	c := S3Config{Bucket: u.Host, Prefix: strings.Trim(u.Path, "/")}
	if err := c.parameters(u.RawQuery); err != nil {
		return S3Config{}, fmt.Errorf("bucket URL: %w", err)
	}
	c.Endpoint = first(c.Endpoint, getenv("AWS_ENDPOINT_URL_S3"), getenv("AWS_ENDPOINT_URL"), defaultEndpoint)
	c.Region = first(c.Region, getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"), defaultRegion)
	c.CAFile = first(c.CAFile, getenv("QUOIT_S3_CA_FILE"))
	if c.Keys, err = keysFrom(getenv); err != nil {
		return S3Config{}, err
	}
	return c, c.check()
}

func (c *S3Config) parameters(query string) error {
	values, err := url.ParseQuery(query)
	if err != nil {
		return fmt.Errorf("what follows the ? cannot be read: %s", s3Want)
	}
	for name, list := range values {
		if !slices.Contains(s3Parameters, name) {
			return fmt.Errorf("unknown parameter %.40q: there are %s", name, strings.Join(s3Parameters, ", "))
		}
		if len(list) > 1 || list[0] == "" {
			return fmt.Errorf("parameter %q: want one value", name)
		}
	}
	c.Endpoint, c.Region = values.Get("endpoint"), values.Get("region")
	c.CAFile, c.Addressing = values.Get("ca"), values.Get("addressing")
	if text := values.Get("timeout"); text != "" {
		if c.Timeout, err = time.ParseDuration(text); err != nil || c.Timeout < time.Second {
			return fmt.Errorf("timeout=%.40s: want a duration of at least 1s, such as 30s", text)
		}
	}
	return nil
}

// keysFrom returns the first pair of keys that is set. Half a pair is a mistake.
func keysFrom(getenv func(string) string) (S3Keys, error) {
	for _, names := range [][3]string{
		{"QUOIT_S3_ACCESS_KEY", "QUOIT_S3_SECRET_KEY", "QUOIT_S3_SESSION_TOKEN"},
		{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"},
		{"MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD", ""},
	} {
		var v [3]string
		for i, name := range names {
			var err error
			if v[i], err = secret(name, getenv); err != nil {
				return S3Keys{}, err
			}
		}
		switch {
		case v[0] != "" && v[1] != "":
			return S3Keys{Access: v[0], Secret: v[1], Token: v[2]}, nil
		case v[0] != "" || v[1] != "":
			return S3Keys{}, fmt.Errorf("%s and %s belong together: set both (or the files, with _FILE behind the name)", names[0], names[1])
		}
	}
	return S3Keys{}, errors.New("no keys for the S3 bucket: set QUOIT_S3_ACCESS_KEY and QUOIT_S3_SECRET_KEY " +
		"(or QUOIT_S3_ACCESS_KEY_FILE and QUOIT_S3_SECRET_KEY_FILE), or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
}

// secret returns a variable, or what the file holds that NAME_FILE names.
func secret(name string, getenv func(string) string) (string, error) {
	if name == "" {
		return "", nil
	}
	value, file := getenv(name), getenv(name+"_FILE")
	switch {
	case file == "":
		return value, nil
	case value != "":
		return "", fmt.Errorf("%s and %s_FILE are both set: want one of them", name, name)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("%s_FILE: %w", name, err)
	}
	if value = strings.TrimSpace(string(text)); value == "" {
		return "", fmt.Errorf("%s_FILE: %s is empty", name, file)
	}
	return value, nil
}

// check says what of a configuration cannot be.
func (c *S3Config) check() error {
	if err := s3utils.CheckValidBucketNameStrict(c.Bucket); err != nil {
		return fmt.Errorf("bucket name %.80q: want 3 to 63 lower-case letters, digits, '-' and '.': %s", c.Bucket, s3Want)
	}
	if c.Prefix != "" {
		if err := ValidateKey(c.Prefix); err != nil {
			return fmt.Errorf("prefix: %w", err)
		}
	}
	if !slices.Contains([]string{"", "auto", "path", "virtual"}, c.Addressing) {
		return fmt.Errorf("addressing=%.40s: want auto, path or virtual", c.Addressing)
	}
	if c.Keys.Access == "" || c.Keys.Secret == "" {
		return errors.New("no keys for the S3 bucket")
	}
	_, _, err := c.host()
	return err
}

// host returns host:port of the endpoint, and whether it speaks TLS.
func (c *S3Config) host() (string, bool, error) {
	u, err := url.Parse(c.Endpoint)
	switch {
	case err != nil:
		return "", false, errors.New("endpoint: not a URL: want http://host:port or https://host:port")
	case strings.Contains(c.Endpoint, "@"): // also where what is before it is no scheme and a user
		return "", false, errors.New("endpoint: keys do not belong in a URL: set QUOIT_S3_ACCESS_KEY and QUOIT_S3_SECRET_KEY")
	case u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" ||
		strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return "", false, fmt.Errorf("endpoint=%.120s: want http://host:port or https://host:port, with nothing after it", c.Endpoint)
	case u.Scheme == "http" && c.CAFile != "":
		return "", false, fmt.Errorf("ca=%.120s (or QUOIT_S3_CA_FILE): the endpoint is http://, where no certificate is checked: want https://", c.CAFile)
	}
	return u.Host, u.Scheme == "https", nil
}

// OpenS3 returns the bucket. It sends nothing: a store that is away now may be
// there when it is first asked.
func OpenS3(c S3Config) (*S3, error) {
	c.Region, c.Endpoint = first(c.Region, defaultRegion), first(c.Endpoint, defaultEndpoint)
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	host, secure, err := c.host()
	if err != nil {
		return nil, err
	}
	transport, err := newTransport(c.Timeout, c.CAFile)
	if err != nil {
		return nil, err
	}
	core, err := minio.NewCore(host, &minio.Options{
		Creds:  credentials.NewStaticV4(c.Keys.Access, c.Keys.Secret, c.Keys.Token),
		Secure: secure, Transport: transport, Region: c.Region, BucketLookup: c.lookup(),
		MaxRetries: 1, // Every try is counted here: a hidden second one of a swap would meet the first.
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	s := &S3{
		core: core, transport: transport, bucket: c.Bucket, parts: defaultParts(), firstPause: s3FirstPause,
		where: strings.TrimSuffix(c.Endpoint, "/") + "/" + c.Bucket,
	}
	if c.Prefix != "" {
		s.prefix = c.Prefix + "/"
	}
	return s, nil
}

func (c *S3Config) lookup() minio.BucketLookupType {
	switch c.Addressing {
	case "path":
		return minio.BucketLookupPath
	case "virtual":
		return minio.BucketLookupDNS
	}
	return minio.BucketLookupAuto
}

// first returns the first string that is not empty.
func first(list ...string) string {
	for _, s := range list {
		if s != "" {
			return s
		}
	}
	return ""
}
