package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
)

// request is what the input asks for.
type request struct {
	Values      []*float64 `json:"values"` // pointers, because null would be read as 0 otherwise
	Percentiles []float64  `json:"percentiles"`
}

// report is the output. Deviations of a sample need two values, and are null for one.
type report struct {
	Count                       int                `json:"count"`
	Sum                         float64            `json:"sum"`
	Mean                        float64            `json:"mean"`
	Median                      float64            `json:"median"`
	Min                         float64            `json:"min"`
	Max                         float64            `json:"max"`
	StandardDeviationSample     *float64           `json:"standard_deviation_sample"`
	StandardDeviationPopulation float64            `json:"standard_deviation_population"`
	VarianceSample              *float64           `json:"variance_sample"`
	VariancePopulation          float64            `json:"variance_population"`
	Percentiles                 map[string]float64 `json:"percentiles"`
}

// maxNesting leaves room for a wrong input that deserves a better message than its depth.
const maxNesting = 32

// defaultPercentiles are reported when the input names none.
var defaultPercentiles = []float64{50, 90, 95, 99}

// answer is the output for an input.
func answer(input []byte) ([]byte, error) {
	values, percentiles, err := parse(input)
	if err != nil {
		return nil, err
	}
	result := measure(values, percentiles)
	for _, number := range []float64{result.Sum, result.VariancePopulation} {
		if math.IsInf(number, 0) || math.IsNaN(number) {
			return nil, errors.New("the values are too large: their sum or variance is beyond the range of a 64-bit float")
		}
	}
	return json.Marshal(result)
}

// parse reads a bare array of numbers, or an object with values and percentiles.
func parse(input []byte) (values, percentiles []float64, err error) {
	var asked request
	trimmed := bytes.TrimSpace(input)
	if len(trimmed) == 0 {
		return nil, nil, errors.New(`the input is empty; it must be a JSON array of numbers, or {"values": [...]}`)
	}
	if nesting(input) > maxNesting {
		return nil, nil, errors.New("the input is nested too deep; it is a list of numbers, or an object with two such lists")
	}
	var target any = &asked
	if trimmed[0] == '[' {
		target = &asked.Values
	}
	decoder := json.NewDecoder(bytes.NewReader(input))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(target); err != nil {
		return nil, nil, explain(err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return nil, nil, fmt.Errorf("there is more after the JSON value, at byte %d", decoder.InputOffset())
	}
	if len(asked.Values) == 0 {
		return nil, nil, errors.New("there are no values; statistics need at least one number")
	}
	for index, value := range asked.Values {
		if value == nil {
			return nil, nil, fmt.Errorf("value %d is null; leave out what is not known", index+1)
		}
		values = append(values, *value)
	}
	if asked.Percentiles == nil {
		return values, defaultPercentiles, nil
	}
	for _, percentile := range asked.Percentiles {
		if percentile < 0 || percentile > 100 {
			return nil, nil, fmt.Errorf("percentile %v is not between 0 and 100", percentile)
		}
	}
	return values, asked.Percentiles, nil
}

// nesting is how deep the input's brackets go. The decoder is recursive: without this look ahead, an
// input of brackets alone would use up the stack, and the agent would trap where it should explain.
func nesting(input []byte) int {
	depth, deepest, inString := 0, 0, false
	for at := 0; at < len(input); at++ {
		switch character := input[at]; {
		case inString && character == '\\':
			at++
		case character == '"':
			inString = !inString
		case !inString && (character == '[' || character == '{'):
			depth++
			deepest = max(deepest, depth)
		case !inString && (character == ']' || character == '}'):
			depth--
		}
	}
	return deepest
}

// explain says in terms of the input what the decoder met.
func explain(err error) error {
	var wrongType *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &wrongType):
		return fmt.Errorf("a %s stands where a %s is needed, before byte %d", wrongType.Value, kind(wrongType), wrongType.Offset)
	case errors.As(err, &syntax):
		return fmt.Errorf("the input is not JSON: %v, before byte %d", syntax, syntax.Offset)
	default:
		return fmt.Errorf("the input is not JSON as expected: %w", err)
	}
}

// kind is the JSON word for a Go type.
func kind(wrong *json.UnmarshalTypeError) string {
	switch wrong.Type.String() {
	case "float64", "*float64":
		return "number"
	case "[]float64", "[]*float64":
		return "list of numbers"
	default:
		return "list of numbers, or an object with values"
	}
}

// measure computes everything about at least one value.
func measure(values, percentiles []float64) report {
	slices.Sort(values)
	count := float64(len(values))
	result := report{
		Count:       len(values),
		Min:         values[0],
		Max:         values[len(values)-1],
		Median:      percentile(values, 50),
		Percentiles: make(map[string]float64, len(percentiles)),
	}
	result.Sum = sum(values, func(value float64) float64 { return value })
	result.Mean = result.Sum / count
	// In two passes: the textbook's one pass over squares loses every digit when the values are
	// close together and far from zero.
	squares := sum(values, func(value float64) float64 { return (value - result.Mean) * (value - result.Mean) })
	result.VariancePopulation = squares / count
	result.StandardDeviationPopulation = math.Sqrt(result.VariancePopulation)
	if count > 1 {
		variance := squares / (count - 1)
		deviation := math.Sqrt(variance)
		result.VarianceSample, result.StandardDeviationSample = &variance, &deviation
	}
	for _, p := range percentiles {
		result.Percentiles["p"+strconv.FormatFloat(p, 'f', -1, 64)] = percentile(values, p)
	}
	return result
}

// percentile interpolates between the two nearest of the sorted values, as spreadsheets and NumPy do.
func percentile(sorted []float64, p float64) float64 {
	rank := p / 100 * float64(len(sorted)-1)
	below := int(rank)
	above := min(below+1, len(sorted)-1)
	share := rank - float64(below)
	return sorted[below]*(1-share) + sorted[above]*share
}

// sum adds with Neumaier's correction, so that a million small values beside a large one still count.
func sum(values []float64, of func(float64) float64) float64 {
	total, lost := 0.0, 0.0
	for _, value := range values {
		term := of(value)
		next := total + term
		if math.Abs(total) >= math.Abs(term) {
			lost += (total - next) + term
		} else {
			lost += (term - next) + total
		}
		total = next
	}
	return total + lost
}
