// Loops of the two units over arrays, called through ctypes by cvfpu.py. See units.sv for what the
// numbers mean.

#include <cstddef>
#include <cstdint>
#include <memory>

#include "Vcast_unit.h"
#include "Vfma_unit.h"
#include "verilated.h"

extern "C" void run_fma(int operation, int rounding, int source, int destination, size_t count,
                        const uint32_t* x, const uint32_t* y, const uint32_t* z, uint32_t* result,
                        uint8_t* status) {
    const auto context = std::make_unique<VerilatedContext>();
    const auto unit = std::make_unique<Vfma_unit>(context.get());
    unit->operation = operation;
    unit->rounding = rounding;
    unit->source = source;
    unit->destination = destination;
    for (size_t i = 0; i < count; i++) {
        unit->x = x[i];
        unit->y = y[i];
        unit->z = z[i];
        unit->eval();
        result[i] = unit->result;
        status[i] = unit->status;
    }
}

extern "C" void run_cast(int rounding, int source, int destination, size_t count, const uint32_t* x,
                         uint32_t* result, uint8_t* status) {
    const auto context = std::make_unique<VerilatedContext>();
    const auto unit = std::make_unique<Vcast_unit>(context.get());
    unit->rounding = rounding;
    unit->source = source;
    unit->destination = destination;
    for (size_t i = 0; i < count; i++) {
        unit->x = x[i];
        unit->eval();
        result[i] = unit->result;
        status[i] = unit->status;
    }
}
