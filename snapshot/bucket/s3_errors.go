package bucket

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/minio/minio-go/v7"
)

var (
	// errDamaged: what came is not what was stored. Asked again, it may be.
	errDamaged = errors.New("object was damaged on its way here")
	// errNotS3: the other side answers, but not as a store does.
	errNotS3 = errors.New("the answer is not that of an S3 store: is the endpoint the address of the S3 API " +
		"(for MinIO port 9000, not that of its console)?")
)

// watch notes whether a request got as far as a connection. Before that it cannot
// have reached the store; after that nobody knows, unless the store answers.
type watch struct{ connected atomic.Bool }

func (w *watch) over(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) { w.connected.Store(true) },
	})
}

func (w *watch) sent() bool { return w.connected.Load() }

// responseOf returns the store's answer that an error stands for, or a zero one.
func responseOf(err error) minio.ErrorResponse {
	var r minio.ErrorResponse
	errors.As(err, &r)
	return r
}

// spoken says whether an answer is in the words of a store, and not a page that
// something else puts up, out of whose 404 the library makes a missing object.
func spoken(r minio.ErrorResponse) bool { return r.XMLName.Local == "Error" }

// refused says whether the store has decided not to do what it was asked, and
// would decide so again.
func refused(r minio.ErrorResponse) bool {
	switch r.StatusCode {
	case http.StatusConflict:
		return r.Code == minio.BucketAlreadyExists // somebody else's, and stays so
	case http.StatusRequestTimeout, http.StatusPreconditionFailed,
		http.StatusTooEarly, http.StatusTooManyRequests, 499: // 499: a proxy's "client went away"
		return false
	case http.StatusNotFound:
		return spoken(r) && r.Code == minio.NoSuchBucket
	case http.StatusNotImplemented:
		return true
	case http.StatusBadRequest:
		// The body did not arrive in time, or not as it was sent.
		return r.Code != "RequestTimeout" && !damagedOnTheWay(r)
	}
	return r.StatusCode >= 300 && r.StatusCode < 500
}

// damagedOnTheWay: the store compared the body with its sum, and dropped it.
func damagedOnTheWay(r minio.ErrorResponse) bool {
	switch r.Code {
	case "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "BadDigest", "IncompleteBody":
		return true
	}
	return false
}

// permanent says whether an error comes from a setting that is wrong, which no
// repetition puts right.
func permanent(err error) bool {
	if r := responseOf(err); r.StatusCode != 0 {
		return refused(r)
	}
	return certificateFault(err) || plainAnswer(err)
}

func certificateFault(err error) bool {
	var verification *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	return errors.As(err, &verification) || errors.As(err, &unknown) || errors.As(err, &host)
}

// plainAnswer: net/http has no error value for it.
func plainAnswer(err error) bool {
	return err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client")
}

// canPass says whether the same call may do better a moment later.
func canPass(err error) bool {
	switch {
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrOutOfRange), permanent(err):
		return false
	}
	switch responseOf(err).StatusCode {
	case http.StatusNotFound, http.StatusRequestedRangeNotSatisfiable, http.StatusPreconditionFailed:
		return false
	}
	return true
}

// readError says in this package's words what a failed read means.
func (s *S3) readError(ctx context.Context, err error) error {
	switch r := responseOf(err); {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return errors.Join(ctx.Err(), hidden(err, ctx.Err()))
	case errors.Is(err, ErrTooLarge), errors.Is(err, ErrOutOfRange):
		return err
	case r.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return ErrOutOfRange
	case permanent(err):
		return s.explain(err)
	case r.StatusCode == http.StatusNotFound && spoken(r):
		return ErrNotFound
	case r.StatusCode == http.StatusNotFound:
		// A bucket must never look empty because its address is another's.
		return fmt.Errorf("%w: %w: %w", ErrUnavailable, errNotS3, s.explain(err))
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, s.explain(err))
}

// hidden drops an error that says no more than the end of the context does.
func hidden(err, ended error) error {
	if errors.Is(err, ended) {
		return nil
	}
	return err
}

// writeError says in this package's words how a failed write ended. What was sent
// and not refused may have happened, whatever the answer says: it may come from
// something in between.
func (s *S3) writeError(ctx context.Context, err error, sent bool) error {
	switch r := responseOf(err); {
	case err == nil:
		return nil
	case r.StatusCode != 0 && damagedOnTheWay(r):
		return fmt.Errorf("%w: %w", ErrUnavailable, s.explain(err))
	case permanent(err):
		return s.explain(err)
	case sent:
		return errors.Join(ErrInDoubt, ctx.Err(), s.explain(err))
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, s.explain(err))
}

// s3Error is a failure with what to do about it.
type s3Error struct {
	where, advice string
	err           error
}

func (e *s3Error) Error() string {
	text := e.where + ": " + e.text()
	if e.advice != "" {
		text += ": " + e.advice
	}
	return text
}

func (e *s3Error) Unwrap() error { return e.err }

// text is short: the answer of something that is no store can be a page of HTML.
func (e *s3Error) text() string {
	if r := responseOf(e.err); r.StatusCode != 0 {
		if r.Message == "" || r.Message == r.Code {
			return fmt.Sprintf("answer %d %.80s", r.StatusCode, r.Code)
		}
		return fmt.Sprintf("answer %d %.80s (%.200s)", r.StatusCode, r.Code, r.Message)
	}
	var u *url.Error
	var op *net.OpError
	switch {
	case errors.As(e.err, &op):
		// Without this end's port: it is another one each time, and no news.
		far := *op
		far.Source = nil
		return far.Error()
	case errors.As(e.err, &u):
		return fmt.Sprintf("%v", u.Err) // Without the address, which where has.
	}
	return fmt.Sprintf("%.300s", e.err.Error())
}

// explain adds to an error where it came from and what helps.
func (s *S3) explain(err error) error {
	return &s3Error{where: s.where, advice: s.advice(err), err: err}
}

func (s *S3) advice(err error) string {
	r := responseOf(err)
	switch r.Code {
	case minio.NoSuchBucket:
		return fmt.Sprintf("create the bucket %q first (quoit bucket create), or correct its name in the URL", s.bucket)
	case minio.BucketAlreadyExists:
		return fmt.Sprintf("the name %q belongs to somebody else: choose another", s.bucket)
	case "InvalidAccessKeyId", "InvalidToken", "InvalidTokenId":
		return "the store does not know this access key: check QUOIT_S3_ACCESS_KEY or AWS_ACCESS_KEY_ID, and that the endpoint is the right one"
	case "SignatureDoesNotMatch":
		return "the secret key does not belong to the access key: check QUOIT_S3_SECRET_KEY or AWS_SECRET_ACCESS_KEY"
	case "ExpiredToken", "ExpiredTokenException":
		return "the session token has expired: set a new one and start again"
	case "RequestTimeTooSkewed", "RequestExpired", "RequestNotYetValid":
		return fmt.Sprintf("the clocks of this machine (%s) and of the store differ by minutes: synchronise them (NTP)", time.Now().UTC().Format(time.RFC3339))
	case minio.AccessDenied:
		return "the key needs s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on the objects, and s3:ListBucket on the bucket"
	case "AuthorizationHeaderMalformed", "InvalidRegion", "PermanentRedirect", "TemporaryRedirect", "IllegalLocationConstraintException":
		return "the bucket is in another region: set region=" + first(r.Region, "...") + " in the URL"
	case "NotImplemented", "APINotSupported":
		return "the store cannot do this: Quoit needs If-Match and If-None-Match on PUT"
	case "SlowDown", "SlowDownWrite", "SlowDownRead":
		return "the store asks for fewer requests"
	}
	if r.StatusCode != 0 {
		if refused(r) {
			return "is the endpoint the address of the S3 API (for MinIO port 9000, not that of its console), and http or https as the store wants it?"
		}
		return ""
	}
	return adviceOnNetwork(err)
}

func adviceOnNetwork(err error) string {
	switch {
	case certificateFault(err):
		return "name the certificate of the authority with ca=/path/to/ca.pem in the URL, and the endpoint as its certificate does"
	case plainAnswer(err):
		return "the store speaks plain HTTP: use endpoint=http://..."
	case errors.Is(err, errNotS3), errors.Is(err, errDamaged), errors.Is(err, context.Canceled):
		return ""
	}
	var u *url.Error
	if errors.As(err, &u) {
		return "does the store run, and is the endpoint right?"
	}
	return ""
}
