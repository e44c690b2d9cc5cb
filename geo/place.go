package geo

import (
	"math"
	"time"
)

// Place is a point on Earth.
type Place struct {
	Latitude  float64 // degrees, −90 to 90, north positive
	Longitude float64 // degrees, −180 to 180, east positive
	Country   string  // ISO 3166-1 alpha-2, as "DE"; may be empty
	City      string  // English; with the embedded database the nearest large city; may be empty
}

const earthRadius = 6371.0088 // km, mean

// Distance returns the length of the great circle between two places in kilometres.
func Distance(a, b Place) float64 {
	const rad = math.Pi / 180
	sinLat := math.Sin((b.Latitude - a.Latitude) * rad / 2)
	sinLon := math.Sin((b.Longitude - a.Longitude) * rad / 2)
	h := sinLat*sinLat + math.Cos(a.Latitude*rad)*math.Cos(b.Latitude*rad)*sinLon*sinLon
	return 2 * earthRadius * math.Asin(math.Sqrt(min(h, 1))) // rounding may take antipodes over 1
}

const (
	fibreSpeed  = 299792.458 * 2 / 3   // km/s
	pathFactor  = 1.6                  // real cable routes and hops over the great circle
	accessDelay = 5 * time.Millisecond // last mile and queues, both ways
)

// ExpectedRTT returns the round trip time to expect over a great-circle distance of km kilometres.
func ExpectedRTT(km float64) time.Duration {
	return accessDelay + time.Duration(2*km*pathFactor/fibreSpeed*float64(time.Second))
}
