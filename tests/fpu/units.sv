// Two units of CVFPU (https://github.com/openhwgroup/cvfpu), each under a plain set of ports.
//
// They are instantiated without the FPU around them and without pipeline registers, so that they
// are combinational: a result stands as soon as the operands do. Formats are numbered as in
// fpnew_pkg::fp_format_e: 0 binary32, 1 binary64 (left out), 2 binary16, 3 E5M2, 4 bfloat16; the
// mask reads from format 0 on. Operands and results stand in the low bits.

// x * y + z, x * y (z is not read), y + z (x is not read): the unit multiplies by one to add.
module fma_unit (
    input  logic [31:0] x,
    input  logic [31:0] y,
    input  logic [31:0] z,
    input  logic [ 2:0] rounding,     // fpnew_pkg::roundmode_e
    input  logic [ 3:0] operation,    // fpnew_pkg::operation_e: FMADD, ADD or MUL
    input  logic [ 2:0] source,       // the format of x and y
    input  logic [ 2:0] destination,  // the format of z and of the result
    output logic [31:0] result,
    output logic [ 4:0] status        // invalid, divide by zero, overflow, underflow, inexact
);
  fpnew_fma_multi #(
      .FpFmtConfig(5'b10111),
      .NumPipeRegs(0)
  ) unit (
      .clk_i          (1'b0),
      .rst_ni         (1'b1),
      .operands_i     ({z, y, x}),
      .is_boxed_i     ('1),
      .rnd_mode_i     (fpnew_pkg::roundmode_e'(rounding)),
      .op_i           (fpnew_pkg::operation_e'(operation)),
      .op_mod_i       (1'b0),
      .src_fmt_i      (fpnew_pkg::fp_format_e'(source)),
      .dst_fmt_i      (fpnew_pkg::fp_format_e'(destination)),
      .tag_i          (1'b0),
      .mask_i         (1'b1),
      .aux_i          (1'b0),
      .in_valid_i     (1'b1),
      .in_ready_o     (),
      .flush_i        (1'b0),
      .result_o       (result),
      .status_o       (status),
      .extension_bit_o(),
      .tag_o          (),
      .mask_o         (),
      .aux_o          (),
      .out_valid_o    (),
      .out_ready_i    (1'b1),
      .busy_o         (),
      .reg_ena_i      ('0)
  );
endmodule

// x in another format. The unit has a path for integers too; 32-bit ones are its narrowest choice
// that leaves the datapath as the core has it.
module cast_unit (
    input  logic [31:0] x,
    input  logic [ 2:0] rounding,
    input  logic [ 2:0] source,
    input  logic [ 2:0] destination,
    output logic [31:0] result,
    output logic [ 4:0] status
);
  fpnew_cast_multi #(
      .FpFmtConfig (5'b10111),
      .IntFmtConfig(4'b0010),
      .NumPipeRegs (0)
  ) unit (
      .clk_i          (1'b0),
      .rst_ni         (1'b1),
      .operands_i     (x),
      .is_boxed_i     ('1),
      .rnd_mode_i     (fpnew_pkg::roundmode_e'(rounding)),
      .op_i           (fpnew_pkg::F2F),
      .op_mod_i       (1'b0),
      .src_fmt_i      (fpnew_pkg::fp_format_e'(source)),
      .dst_fmt_i      (fpnew_pkg::fp_format_e'(destination)),
      .int_fmt_i      (fpnew_pkg::INT32),
      .tag_i          (1'b0),
      .mask_i         (1'b1),
      .aux_i          (1'b0),
      .in_valid_i     (1'b1),
      .in_ready_o     (),
      .flush_i        (1'b0),
      .result_o       (result),
      .status_o       (status),
      .extension_bit_o(),
      .tag_o          (),
      .mask_o         (),
      .aux_o          (),
      .out_valid_o    (),
      .out_ready_i    (1'b1),
      .busy_o         (),
      .reg_ena_i      ('0)
  );
endmodule
