//go:build wasip1

package main

import "unsafe"

// The mentat ABI, as far as this agent needs it: the only file that knows of pointers. The host
// copies during a call and keeps no pointer after it.

//go:wasmimport mentat read_input
func readInput(pointer unsafe.Pointer, capacity uint32) int32

//go:wasmimport mentat write_output
func writeOutput(pointer unsafe.Pointer, length uint32) int32

//go:wasmimport mentat log
func writeLog(level int32, pointer unsafe.Pointer, length uint32)

const levelError = 0

// process is the entry point of the mentat ABI: 0 is success.
//
//go:wasmexport process
func process() int32 {
	output, err := answer(input())
	if err != nil {
		message := []byte(err.Error())
		writeLog(levelError, unsafe.Pointer(unsafe.SliceData(message)), uint32(len(message)))
		return 1
	}
	writeOutput(unsafe.Pointer(unsafe.SliceData(output)), uint32(len(output)))
	return 0
}

// input is the whole input.
func input() []byte {
	bytes := make([]byte, readInput(nil, 0))
	readInput(unsafe.Pointer(unsafe.SliceData(bytes)), uint32(len(bytes)))
	return bytes
}

// A module that is called through its exports has no use for main, but the linker asks for one.
func main() {}
