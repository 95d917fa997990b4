//! The whole street in one process: its data, and the plant that stands for its cables, meters and cars.

pub mod demo;
pub mod plant;
pub mod street;
